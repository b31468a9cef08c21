# make demo in a container, on a CPU: synthetic CT, nnU-Net's commands from planning to Dice, a page of pictures.
#
#     docker build -t scd-plugin .
#     mkdir -p demo_output
#     docker run --rm --shm-size=2g -v "$PWD/demo_output:/home/scd/output" scd-plugin
#
# The page is demo_output/demo/report.html. The folder must be there and writable for user 1000: where `id -u` says another
# number, chmod 777 demo_output; Docker makes a missing one as root's. nnU-Net's processes share about 70 MB, more than the
# 64 MB that a container has without --shm-size. Any other command: docker run --rm scd-plugin doctor
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
