#!/usr/bin/env bash
# Fetches ONNX Runtime's shared library into .slated/ and prints its path.
#
#   scripts/onnxruntime.sh          for the CPU; the service finds it by itself
#   scripts/onnxruntime.sh --cuda   for NVIDIA GPUs with CUDA 13 (about 250 MB); point ORT_DYLIB_PATH to it
#
# It comes out of the Python wheel because that is where the project releases the library for every platform under one
# scheme, with a hash that pip compares.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

VERSION=1.31.1

case "$*" in
    '') package=onnxruntime ;;
    --cuda) package=onnxruntime-gpu ;;
    *) die "usage: scripts/onnxruntime.sh [--cuda]" ;;
esac

library=libonnxruntime.so
case "$package $(uname -s) $(uname -m)" in
    'onnxruntime Linux x86_64')
        platform=manylinux_2_28_x86_64
        sha256=1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536
        ;;
    'onnxruntime Linux aarch64')
        platform=manylinux_2_28_aarch64
        sha256=0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc
        ;;
    'onnxruntime Darwin arm64')
        platform=macosx_14_0_arm64
        sha256=96dd2564b10ea7153ad9c207e7cd8e5917cb3ba521e0e0a62ac03486fdc8d56c
        library=libonnxruntime.dylib
        ;;
    'onnxruntime-gpu Linux x86_64')
        platform=manylinux_2_28_x86_64
        sha256=05d548956197b9d01f59b625de740e0d6be3593f874e241a12dc0362650ecdf7
        ;;
    'onnxruntime-gpu Linux aarch64')
        platform=manylinux_2_34_aarch64
        sha256=a0f1725c5a6d1ef82d63498b5ebc25e2c90c9560e91dc76db9be4a49162d4d33
        ;;
    *) die "no $package $VERSION for $(uname -s) $(uname -m): build ONNX Runtime and point ORT_DYLIB_PATH to it" ;;
esac

folder=$FETCHED/$package/$VERSION
wheel="$package==$VERSION --hash=sha256:$sha256"

if ! is_fetched "$folder" "$library" "$wheel"; then
    open_wheel "$wheel" --platform "$platform" --python-version 3.12 --implementation cp
    files=$STAGE/wheel/onnxruntime
    # Without the version in its name, so that nothing that looks for it has to know the version.
    mv "$files"/capi/libonnxruntime.*"$VERSION"* "$STAGE/content/$library"
    mv "$files/LICENSE" "$files/ThirdPartyNotices.txt" "$STAGE/content/"
    if [ "$package" = onnxruntime-gpu ]; then
        # The library looks for these beside itself.
        mv "$files"/capi/libonnxruntime_providers_*.so "$STAGE/content/"
    fi
    publish "$folder" "$library" "$wheel"
fi

printf '%s\n' "$folder/$library"
