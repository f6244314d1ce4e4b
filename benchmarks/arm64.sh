#!/usr/bin/env bash
# An emulated Arm device: FOLDER/python is an arm64 Python 3.11 with what a device install has, and this tledge.
#
#   benchmarks/arm64.sh FOLDER
#   FOLDER/python -m tledge verify BUNDLE
#   CPU=cortex-a76 FOLDER/python -m tledge predict BUNDLE TEXT
#
# CPU is cortex-a72 unless it is given, which has no dot product of int8; cortex-a76 has it. Needs Debian, a network
# and the project's .venv; takes a minute and 270 MB, no root, and installs nothing on this machine. What is there
# already and still current is left as it is. tledge itself is linked, so it is always this folder's.
# It computes what an Arm processor computes, 20 to 50 times slower than this one: no timing there means anything.
set -euo pipefail

fail() {
  echo "arm64.sh: $*" >&2
  exit 1
}

# The first line of what a command printed that says why it failed, or else its last.
reason() { grep -m 1 -E '^(E:|W:|ERROR:)' "$1" || tail -n 1 "$1"; }

(($# == 1)) || fail "expected one folder to make the device in, got $# arguments"
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-$project/.venv/bin/python}
keys=/usr/share/keyrings/debian-archive-keyring.gpg
for tool in apt-get dpkg dpkg-deb; do
  command -v "$tool" >/dev/null || fail "$tool is missing: the device is made of Debian's packages, so this runs on Debian"
done
[[ -r $keys ]] || fail "$keys is missing: install debian-archive-keyring, which Debian's packages are checked with"
"$python" -m pip --version >/dev/null 2>&1 || fail "$python with pip is missing: run make install first, or set PYTHON"
source=$(cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null |
  sed -nE 's/^(URIs:|deb( +\[[^]]*\])?) +([a-z]+:[^ ]+).*/\3/p' | sed -n 1p) || true # one of the places is always missing
[[ -n $source ]] || fail "no source of packages is configured in /etc/apt"

# What the device is made of: this script, the dependencies, their versions. A device of anything else is made again.
requirements=$("$python" -c 'import sys, tomllib
print(*tomllib.load(open(sys.argv[1], "rb"))["project"]["dependencies"], sep="\n")' "$project/pyproject.toml" 2>/dev/null) ||
  fail "$project/pyproject.toml cannot be read as TOML with dependencies of its project"
made_of=$(cat "${BASH_SOURCE[0]}" "$project/constraints.txt" - <<<"$requirements" | sha256sum | cut -d ' ' -f 1)
target=$(realpath -m "$1")
if [[ -d $target && -n $(ls -A "$target") && ! -f $target/made-of ]]; then
  fail "$target holds something else: give a new or empty folder"
fi
if [[ -f $target/made-of && $(<"$target/made-of") == "$made_of" ]]; then
  ln -sfn "$project/tledge" "$target/site/tledge"
  echo "$target/python"
  exit
fi

# Written aside and moved when whole, as everything else is.
aside=$target.partial
rm -rf "$aside"
mkdir -p "$aside"/{apt/lists,apt/cache}/partial "$aside"/{root,site}
trap 'rm -rf "$aside"' EXIT
log=$aside/log

# The emulator is trixie's, since bookworm's (7.2) crashes in onnxruntime. Python is bookworm's, 3.11.
here=$(dpkg --print-architecture)
cat >"$aside/apt/sources.list" <<END
deb [arch=$here signed-by=$keys] $source trixie main
deb [arch=arm64 signed-by=$keys] $source bookworm main
END
cat >"$aside/apt/conf" <<END
Dir::Etc::sourcelist "$aside/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State "$aside/apt";
Dir::State::status "/dev/null";
Dir::Cache "$aside/apt/cache";
APT::Architectures { "$here"; "arm64"; };
APT::Sandbox::User "$(id -un)";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "true";
END
export APT_CONFIG=$aside/apt/conf
apt-get update -qq --error-on=any >"$log" 2>&1 ||
  fail "Debian's lists of trixie and bookworm cannot be read from $source: $(reason "$log")"
fetch() { # The packages with all that they need, unpacked in a folder.
  local into=$1
  shift
  rm -rf "$aside/apt/cache/archives"
  apt-get install -qq --download-only "$@" >"$log" 2>&1 || fail "packages cannot be fetched from $source: $(reason "$log")"
  for package in "$aside"/apt/cache/archives/*.deb; do
    dpkg-deb -x "$package" "$into" || fail "$package cannot be unpacked"
  done
}
fetch "$aside/apt" -t trixie "qemu-user:$here"
mv "$aside/apt/usr/bin/qemu-aarch64" "$aside" # it is static, and emulators of other processors lie beside it
fetch "$aside/root" -t bookworm -o APT::Architecture=arm64 python3.11:arm64 libstdc++6:arm64
"$python" -m pip install --quiet --disable-pip-version-check --no-compile --target "$aside/site" \
  --only-binary=:all: --implementation cp --python-version 3.11 \
  $(printf -- '--platform manylinux_2_%s_aarch64 ' {36..17}) --platform manylinux2014_aarch64 \
  --constraint "$project/constraints.txt" --requirement /dev/stdin <<<"$requirements" >"$log" 2>&1 ||
  fail "the device's Python packages cannot be fetched: $(reason "$log")"
ln -sfn "$project/tledge" "$aside/site/tledge"
rm -rf "$aside/apt" "$log"

cat >"$aside/python" <<'END'
#!/usr/bin/env bash
device=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
export PYTHONPATH=$device/site PYTHONNOUSERSITE=1
exec "$device/qemu-aarch64" -cpu "${CPU:-cortex-a72}" -L "$device/root" "$device/root/usr/bin/python3.11" "$@"
END
chmod +x "$aside/python"
"$aside/python" -c 'import onnxruntime, tledge' >"$aside/log" 2>&1 ||
  fail "the device was made and does not work: $(tail -n 1 "$aside/log")"
rm "$aside/log"
echo "$made_of" >"$aside/made-of"
rm -rf "$target"
mv "$aside" "$target"
trap - EXIT
echo "$target/python"
