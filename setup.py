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
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords=[
        *("person re-identification", "visible-infrared", "cross-modality", "video", "re-ID"),
        *("adversarial attack", "adversarial defense", "adversarial training", "fast-reid"),
    ],
    project_urls={
        "SADSTRM": "https://arxiv.org/abs/2307.03903",
        "DDDefense": "https://arxiv.org/abs/2511.09933",
        "fast-reid": "https://github.com/JDAI-CV/fast-reid",
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Environment :: GPU :: NVIDIA CUDA",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    # Tested on 3.11. On 3.12.1 and 3.13.0 the tests of the wheel ran (tests/test_wheel.py), with
    # torch 2.13.0, torchvision 0.28.0, numpy 2.5.5 and scipy 1.18.1; on 3.13.0 the tests that are
    # not slow ran as well. The requirements do not install on 3.10.
    python_requires=">=3.11",
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
        "simplejpeg>=1.8",
        "matplotlib>=3.8",
        "tensorboard>=2.14",
        "tqdm>=4.66",
        "filelock>=3.16",
    ],
    extras_require={
        "parquet": ["pyarrow>=14"],  # manifests and features in Parquet
        "video": ["av>=15"],  # tools/extract_frames.py, tools/extract.py
        "diffusion": ["diffusers>=0.42"],  # tools/balance_data.py
        "checks": ["foolbox>=3.3.4"],  # HopSkipJump in plugins/attacks
        "weights": ["gdown>=5"],  # fastreid fetches ImageNet weights of its own networks with it
        "gradcam": ["captum>=0.7"],  # tools/visualize.py gradcam
        "onnx": ["onnx>=1.16", "onnxscript>=0.2", "onnxruntime>=1.18"],  # tools/export.py
        "slurm": ["submitit>=1.5"],  # tools/ablate.py --executor slurm
        "metric-learning": ["pytorch-metric-learning>=2.8"],  # docs/extend/metric-learning.md
        "benchmark": ["cython>=3"],  # tools/benchmark.py compiles fastreid's ranking
        "docs": ["mkdocs>=1.6", "mkdocs-material>=9.6", "mkdocstrings[python]>=0.30"],
        "test": [
            *("pytest>=8", "pytest-xdist>=3.5", "hypothesis>=6.100", "twine>=6"),
            *("ruff", "import-linter>=2", "mypy>=1.16"),
            *("types-PyYAML", "types-tabulate", "types-tqdm"),
        ],
    },
)
