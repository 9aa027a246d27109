# The release binary on Debian 12, built as a user builds it: scripts/build installs what is missing, LibTorch too.
#   docker build -t switchyard .
FROM debian:12

# For several hosts: mpirun, and the MPI Operator of Kubernetes, reach the others by ssh, without questions about keys.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates openssh-client openssh-server tini \
    && rm -rf /var/lib/apt/lists/* \
    && mkdir -p /run/sshd \
    && printf 'StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\n' >/etc/ssh/ssh_config.d/switchyard.conf \
    && printf 'StrictModes no\n' >/etc/ssh/sshd_config.d/switchyard.conf

# First what seldom changes: the packages and LibTorch.
WORKDIR /switchyard
COPY scripts/setup scripts/setup
RUN scripts/setup
COPY . .
RUN scripts/build

# tini hands signals on and clears up after ranks that died.
ENTRYPOINT ["tini", "--"]
CMD ["build/release/switchyard", "doctor"]
