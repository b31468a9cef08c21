#!/usr/bin/env bash
# A folder of wheels for a GPU machine that has PyTorch, torchvision, SciPy and no network, in parts of at most 60 MB:
#   bash benchmarks/gpu/wheels.sh FOLDER [PYTHON_VERSION]
# fills FOLDER/tools (leave it out where typer, psutil, rich and pytest are there), FOLDER/networks, enough to measure
# networks, nnU-Net's and Primus too, and FOLDER/predict and FOLDER/images, which nnU-Net's commands and trainers need
# beside scikit-image, scikit-learn, pandas, matplotlib, seaborn, tifffile, tqdm and requests.
# There: pip install --no-index --no-deps --target site FOLDER/*/*.whl; PYTHONPATH=site:. python benchmarks/gpu/gpu_run.py
set -euo pipefail
folder=${1:?name a folder for the wheels} version=${2:-3.12}
constraints=$(realpath "$(dirname "$0")/../../constraints.txt")
tools="typer annotated-doc shellingham pydantic pydantic-core annotated-types typing-inspection rich markdown-it-py mdurl
pygments psutil pytest iniconfig pluggy packaging"
networks="monai dynamic-network-architectures timm einops batchgenerators future nibabel nnunetv2"
predict="acvl-utils batchgeneratorsv2 connected-components-3d blosc2 ndindex numexpr msgpack graphviz yacs imagecodecs"
images="SimpleITK"
platforms=(manylinux_2_28_x86_64 manylinux_2_27_x86_64 manylinux_2_17_x86_64 manylinux2014_x86_64 manylinux1_x86_64)
for part in tools networks predict images; do
  mkdir -p "$folder/$part"
  for package in ${!part}; do
    python3 -m pip download -q --disable-pip-version-check --no-deps --prefer-binary -c "$constraints" -d "$folder/$part" \
      --only-binary=:all: --python-version "$version" --implementation cp ${platforms[@]/#/--platform } "$package" ||
      python3 -m pip wheel -q --disable-pip-version-check --no-deps -c "$constraints" -w "$folder/$part" "$package"
  done
  du -sh "$folder/$part"
done
