"""How the commands are called, for messages that name one."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def command_line(tool: str) -> str:
    """Write how a command is called: as a file of this checkout, or by its name if installed.

    Args:
        tool: file in ``tools`` without its ending, such as "check_data".
    """
    if (ROOT / f"tools/{tool}.py").is_file():
        return f"python tools/{tool}.py"
    return f"fastreid-plugins {tool.replace('_', '-')}"
