#!/bin/bash
# Install the Debian packages that the project needs and that are missing. Quick and silent when all is there.
# `bootstrap.sh lint` also wants the tools of `make lint`, `bootstrap.sh fuzz` those of `make fuzz`.
set -eu

packages=(
  # building
  make gcc libc6-dev pkg-config git
  libopenmpi-dev openmpi-bin openssh-client
  libscalapack-openmpi-dev libblis-dev liblapack-dev
  libhdf5-openmpi-dev libyaml-dev libjansson-dev libxxhash-dev uthash-dev
  # training
  python3 python3-torch python3-numpy python3-sentencepiece python3-tqdm python3-matplotlib
  bible-kjv bible-kjv-text
  # testing
  check python3-h5py hdf5-tools strace procps e2fsprogs mount
)
[ "${1:-}" = lint ] && packages+=(clang-format cppcheck shellcheck)
[ "${1:-}" = fuzz ] && packages+=(clang libclang-rt-14-dev)

fail() {
  echo "bootstrap: $*" >&2
  exit 1
}

by_hand() {
  fail "$1; as root, run: apt-get update && apt-get install --no-install-recommends ${missing[*]}"
}

if ! command -v dpkg-query apt-get >/dev/null; then
  fail "this is not a Debian system; what is needed: ${packages[*]}"
fi

installed=$(dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null |
  sed -n 's/^installed //p') || true
missing=()
for package in "${packages[@]}"; do
  case $'\n'$installed$'\n' in
  *$'\n'"$package"$'\n'*) ;;
  *) missing+=("$package") ;;
  esac
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || by_hand "packages are missing, and this is neither root nor is there sudo"
  as_root=(sudo)
  [ -t 0 ] || as_root+=(--non-interactive)
fi
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get --quiet=2 -o DPkg::Lock::Timeout=300)

echo "bootstrap: installing ${missing[*]}" >&2
"${apt[@]}" update >&2 || echo "bootstrap: the package lists could not be updated; trying with those that are here" >&2
"${apt[@]}" install --yes --no-install-recommends "${missing[@]}" >&2 ||
  by_hand "the packages could not be installed"
