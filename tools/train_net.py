"""Train or evaluate what a config describes.

``python tools/train_net.py --config-file configs/VVI/synthetic/sadstrm.yml`` trains and evaluates,
``--eval-only MODEL.WEIGHTS logs/run/model_final.pth`` evaluates, ``--resume`` goes on.
"""

import sys
from pathlib import Path

# In an uninstalled checkout; in front, or a foreign `plugins` in site-packages would win.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from plugins.engine import launch, parse_arguments, read_cfg, run
from plugins.errors import user_errors

KEPT = "what was saved before is kept; the same command starts anew, with --resume it goes on"


@user_errors(kept=KEPT)
def main() -> None:
    """Read the command line, then run in one or several processes."""
    args = parse_arguments("Train or evaluate what a config describes.")
    cfg = read_cfg(args)
    launch(
        run_reporting_errors,
        args.num_gpus,
        args.num_machines,
        args.machine_rank,
        args.dist_url,
        cfg.MODEL.DEVICE,
        (cfg, args),
    )


@user_errors(kept=KEPT)
def run_reporting_errors(cfg, args) -> None:
    """In a process of its own an error must be printed there."""
    run(cfg, args)


if __name__ == "__main__":
    main()
