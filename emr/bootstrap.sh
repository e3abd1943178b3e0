#!/usr/bin/env bash
# Makes a node of EMR on EC2 ready for imagesieve; run by EMR on every node before anything else, and harmless twice.
#
#   bootstrap.sh --package s3://…/imagesieve-VERSION --python 3.11 [--gpus FILE SHA256] \
#                [--environment FILE SHA256] [--models FILE SHA256] [--cgroup]
#
# All nodes: that Python, where it is missing, and gpus.sh. The primary node, where drivers run: the environment and the
# models, unpacked below /opt/imagesieve. --cgroup: what YARN needs to give each container its own GPU, on EMR 7.
# Nothing is updated. A file with another digest stops the node, and so does work that is not done in LIMIT_S seconds.
set -euo pipefail

# Of a test: where / is, and less time.
ROOT="${IMAGESIEVE_ROOT:-}"
LIMIT_S="${IMAGESIEVE_LIMIT_S:-120}"
HOME_DIR="$ROOT/opt/imagesieve"
INSTANCE="$ROOT/mnt/var/lib/info/instance.json"
CGROUP="$ROOT/spark-rapids-cgroup"

fail() {
  echo "bootstrap.sh: $*" >&2
  exit 1
}

# in_time COMMAND…: within what is left of LIMIT_S; SECONDS is bash's own count.
in_time() {
  timeout "$((SECONDS < LIMIT_S ? LIMIT_S - SECONDS : 1))" "$@"
}

# fetch FILE SHA256 TARGET: a file of the package, whole and as the manifest says, or not at all.
fetch() {
  local draft
  draft="$(mktemp "$3.XXXXXX")"
  in_time aws s3 cp --only-show-errors "$package/$1" "$draft" || fail "$package/$1 cannot be read"
  if ! echo "$2  $draft" | sha256sum --check --quiet --status; then
    rm -f "$draft"
    fail "$package/$1 has another digest than $2"
  fi
  mv "$draft" "$3"
}

# unpack FILE SHA256 FOLDER: an archive, in place of what was there; nothing where it is there already.
unpack() {
  local folder="$HOME_DIR/$3" archive="$HOME_DIR/$3.tar.gz"
  if [ "$(cat "$folder/.sha256" 2>/dev/null || true)" = "$2" ]; then
    return
  fi
  fetch "$1" "$2" "$archive"
  rm -rf "$folder.new"
  mkdir "$folder.new"
  in_time tar -xzf "$archive" -C "$folder.new" --no-same-owner || fail "$1 cannot be unpacked"
  echo "$2" >"$folder.new/.sha256"
  rm -rf "$folder"
  mv "$folder.new" "$folder"
  rm -f "$archive"
}

install_python() {
  if [ ! -x "$ROOT/usr/bin/python$1" ]; then
    # From the repositories that belong to the release of the image, so always the same build for one release of EMR.
    in_time sudo dnf install --assumeyes --quiet "python$1" || fail "python$1 cannot be installed"
  fi
  [ -x "$ROOT/usr/bin/python$1" ] || fail "there is no /usr/bin/python$1"
}

mount_cgroup() {
  if mountpoint -q "$CGROUP/devices"; then
    return
  fi
  sudo mkdir -p "$CGROUP/devices"
  sudo mount -t cgroup -o devices cgroupv1-devices "$CGROUP/devices"
  sudo chmod a+rwx -R "$CGROUP"
}

package="" python="" cgroup="" gpus=() environment=() models=()
while [ $# -gt 0 ]; do
  case "$1" in
    --package) package="${2:?}"; shift 2 ;;
    --python) python="${2:?}"; shift 2 ;;
    --gpus) gpus=("${2:?}" "${3:?}"); shift 3 ;;
    --environment) environment=("${2:?}" "${3:?}"); shift 3 ;;
    --models) models=("${2:?}" "${3:?}"); shift 3 ;;
    --cgroup) cgroup=yes; shift ;;
    *) fail "unknown option $1" ;;
  esac
done
[ -n "$package" ] || fail "--package is missing"
[[ "$python" =~ ^3\.[0-9]+$ ]] || fail "--python must be such as 3.11, got '$python'"

install_python "$python"
sudo mkdir -p "$HOME_DIR"
sudo chown "$(id -un)" "$HOME_DIR"
if [ ${#gpus[@]} -gt 0 ]; then
  fetch "${gpus[@]}" "$HOME_DIR/gpus.sh"
  chmod 755 "$HOME_DIR/gpus.sh"
fi
if [ -n "$cgroup" ]; then
  mount_cgroup
fi
if grep -q '"isMaster"[[:space:]]*:[[:space:]]*true' "$INSTANCE"; then
  if [ ${#environment[@]} -gt 0 ]; then
    unpack "${environment[@]}" environment
  fi
  if [ ${#models[@]} -gt 0 ]; then
    unpack "${models[@]}" models
  fi
fi
echo "bootstrap.sh: done in $SECONDS s"
