#!/bin/sh
# The CPU kernels under AddressSanitizer with UBSan, and under ThreadSanitizer: every operator over its tests' cases.
#
#     tests/kernels/sanitize.sh [address|thread] ...        # both where none is named; needs g++ and its sanitizers
#
# The libraries are compiled by segzoo's own builder into a temporary cache, with a compiler that adds the sanitizer's
# flags. Python itself and PyTorch are not instrumented; the sanitizer's library comes first by LD_PRELOAD.
#
# ThreadSanitizer must see how threads begin and end. PyTorch's pool is OpenMP's, whose barriers it does not know, so
# that every result would look like a race. sanitizer_threads.cpp takes the place of torch_parallel_for with threads of
# its own, four of them, whatever the machine has.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
python=${PYTHON:-python}
compiler=${CXX:-g++}
variants=${SEGZOO_SANITIZED_VARIANTS:-"portable avx2 avx512"}
tests="$here/test_segmentation_tail.py $here/test_deformable_attention.py $here/test_neighborhood_native.py \
$here/test_training_crop.py $here/test_normalised_crops.py $here/test_png_rows.py"
# What compiles, starts processes or traces is not about the kernels' memory.
skipped="not compile and not variant and not opcheck and not reference and not layer"

wrapper() { # flags -> a compiler that adds them
    # Not the compiler itself is to be watched; -O1, because instrumented code of -O3 takes minutes to compile.
    printf '#!/bin/sh\nunset LD_PRELOAD\nexec %s %s "$@" -O1\n' "$compiler" "$1" > "$work/g++"
    chmod +x "$work/g++"
}

run() { # name, preloaded libraries, a program to start Python with
    CXX="$work/g++" SEGZOO_HOME="$work/$1" "$python" -m segzoo kernel build > /dev/null
    for variant in $variants; do
        echo "== $1 sanitizer, $variant"
        # -s: a report must reach the terminal, not a test's capture.
        env LD_PRELOAD="$2" CXX="$work/g++" SEGZOO_HOME="$work/$1" SEGZOO_KERNELS=native OMP_NUM_THREADS=1 \
            SEGZOO_CPU_VARIANT="$variant" PYTHONMALLOC=malloc \
            $3 "$python" -m pytest -x -q -s -p no:cacheprovider $tests -k "$skipped" 2> "$work/log" || {
            tail -80 "$work/log"
            echo "failed: $1 sanitizer, $variant" >&2
            exit 1
        }
        if grep -E "runtime error|Sanitizer:" "$work/log"; then
            echo "reports: $1 sanitizer, $variant" >&2
            exit 1
        fi
    done
}

for kind in "${@:-address thread}"; do
    for name in $kind; do
        case $name in
            address)
                wrapper "-g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined"
                # Python keeps memory to its end: leaks are not looked for.
                ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
                    run address "$($compiler -print-file-name=libasan.so) $($compiler -print-file-name=libubsan.so)" ""
                ;;
            thread)
                wrapper "-g -fno-omit-frame-pointer -fsanitize=thread"
                "$work/g++" -std=c++20 -O1 -fPIC -shared "$here/sanitizer_threads.cpp" -o "$work/threads.so"
                # Addresses must lie where ThreadSanitizer expects them: no randomisation.
                TSAN_OPTIONS="halt_on_error=1 exitcode=66 report_signal_unsafe=0" \
                    run thread "$($compiler -print-file-name=libtsan.so) $work/threads.so" "setarch $(uname -m) -R"
                ;;
            *)
                echo "unknown sanitizer $name: address or thread" >&2
                exit 2
                ;;
        esac
    done
done
echo "no reports"
