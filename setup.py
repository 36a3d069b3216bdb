"""Distribution ``fastreid-plugins``: the packages ``plugins`` and, of ``tools``, the commands.

fastreid itself is not listed: its wheel pins torch 1.13.1, which Python 3.11 cannot install. It
goes in beside this package with ``pip install --no-deps -r requirements-fastreid.txt``.
"""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
CONFIGS = {
    f"fastreid_plugins.{'.'.join(folder.relative_to(HERE).parts)}": str(folder.relative_to(HERE))
    for folder in sorted({file.parent for file in HERE.glob("configs/**/*.yml")})
}

setup(
    name="fastreid-plugins",
    version="0.1.0",
    description="Visible-infrared video person re-ID, attacks and defenses, as fast-reid plugins",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    # `python tools/train_net.py` and `fastreid-plugins train` are one file; so are the configs.
    packages=[*find_packages(include=["plugins", "plugins.*"]), "fastreid_plugins", *CONFIGS],
    package_dir={"fastreid_plugins": "tools", **CONFIGS},
    package_data={"plugins": ["py.typed"], **{name: ["*.yml"] for name in CONFIGS}},
    entry_points={"console_scripts": ["fastreid-plugins = fastreid_plugins.__main__:main"]},
    install_requires=[
        "torch>=2.4",
        "torchvision>=0.19",
        "numpy>=1.26",
        "scipy>=1.11",
        "yacs>=0.1.8",
        "termcolor>=2.2",
        "tabulate>=0.9",
        "faiss-cpu>=1.8",
        "scikit-learn>=1.3",
        "opencv-python-headless>=4.8",
        "pillow>=10",
        "matplotlib>=3.8",
        "tensorboard>=2.14",
        "tqdm>=4.66",
        "filelock>=3.16",
        "gdown>=5",
    ],
    extras_require={
        "parquet": ["pyarrow>=14"],  # manifests and features in Parquet
        "video": ["av>=15"],  # tools/extract_frames.py, tools/extract.py
        "diffusion": ["diffusers>=0.42"],  # tools/balance_data.py
        "checks": ["foolbox>=3.3.4"],  # HopSkipJump in plugins/attacks
        "onnx": ["onnx>=1.16", "onnxscript>=0.2", "onnxruntime>=1.18"],  # tools/export_onnx.py
        "test": [
            *("pytest>=8", "pytest-xdist>=3.5", "hypothesis>=6.100"),
            *("ruff", "import-linter>=2", "mypy>=1.16"),
            *("types-PyYAML", "types-tabulate", "types-tqdm"),
        ],
    },
)
