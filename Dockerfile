# make demo in a container, on a CPU: synthetic CT, nnU-Net's commands from planning to Dice, a picture.
#
#     docker build -t scd-plugin .
#     docker run --rm --shm-size=2g -v "$PWD/demo_output:/home/scd/output" scd-plugin
#
# nnU-Net's processes share memory, of which a container has 64 MB without --shm-size. The folder that is mounted must be
# writable for user 1000. Any other command: docker run --rm scd-plugin doctor
FROM python:3.11-slim

RUN useradd --create-home --uid 1000 scd \
    && mkdir /home/scd/output \
    && chown scd:scd /home/scd/output

WORKDIR /opt/scd-plugin
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY scd_plugin scd_plugin
COPY nnunet_trainers nnunet_trainers
# PyTorch for CPUs is a tenth of the size
RUN python -m pip install --no-cache-dir -c constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu .

USER scd
WORKDIR /home/scd
ENTRYPOINT ["scd"]
CMD ["demo", "--output", "output/demo"]
