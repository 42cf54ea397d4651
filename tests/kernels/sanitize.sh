#!/bin/sh
# The CPU kernels under AddressSanitizer with UBSan, and under ThreadSanitizer: every operator over its tests' cases.
#
#     tests/kernels/sanitize.sh [address|thread] ...        # both where none is named; needs g++ and its sanitizers
#
# SEGZOO_SANITIZED_VARIANTS="avx512 avx2" asks for fewer instruction sets than all three. All takes 7 minutes of a core.
#
# The libraries are compiled by segzoo's own builder into a temporary cache, with a compiler that adds the sanitizer's
# flags. Python itself and PyTorch are not instrumented; the sanitizer's library comes first by LD_PRELOAD. That the
# sanitizer sees anything at all is tried first, on faults planted in sanitizer_faults.cpp.
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
variants=${SEGZOO_SANITIZED_VARIANTS:-"avx512 avx2 portable"}
families="segmentation_tail deformable_attention deformable_operator neighborhood_native neighborhood_operator \
neighborhood_oracle training_crop normalised_crops png_rows"
# What compiles, starts processes or looks at operators from outside is not about the kernels' memory.
skipped="not compile and not variant and not opcheck"

fail() {
    echo "$*" >&2
    exit 1
}

library() { # name -> the sanitizer's library beside the compiler
    file=$("$compiler" -print-file-name="lib$1.so")
    [ -e "$file" ] || fail "$compiler has no lib$1.so: install its sanitizers, or name a g++ by CXX"
    echo "$file"
}

wrapper() { # kind, flags -> a compiler that adds them, and with it a cache of its own
    mkdir -p "$work/$1"
    # Not the compiler itself is to be watched; -O1, because instrumented code of -O3 takes minutes to compile.
    printf '#!/bin/sh\nunset LD_PRELOAD\nexec %s -g1 -fno-omit-frame-pointer %s "$@" -O1\n' "$compiler" "$2" \
        > "$work/$1/g++"
    chmod +x "$work/$1/g++"
}

# The watched Python: `kind`, `preloaded` and `start` (a program to start it with) are set by who calls.
watched() {
    # tests/conftest.py takes the cache from SEGZOO_TEST_HOME, a plain Python from SEGZOO_HOME.
    env LD_PRELOAD="$preloaded" CXX="$work/$kind/g++" SEGZOO_HOME="$work/$kind" SEGZOO_TEST_HOME="$work/$kind" \
        SEGZOO_KERNELS=native OMP_NUM_THREADS=1 PYTHONMALLOC=malloc $start "$python" "$@"
}

must_find() { # a planted fault, what the report says
    if watched -c "import ctypes, sys; ctypes.CDLL(sys.argv[1]).$1()" "$work/$kind/faults.so" 2> "$work/log"; then
        fail "the $kind sanitizer did not see the planted $1"
    fi
    grep -q "$2" "$work/log" || {
        tail -20 "$work/log"
        fail "the $kind sanitizer gave no report of the planted $1"
    }
}

build() { # the sanitizer's symbol that every library must name
    "$work/$kind/g++" -std=c++20 -fPIC -shared "$here/sanitizer_faults.cpp" -o "$work/$kind/faults.so"
    CXX="$work/$kind/g++" SEGZOO_HOME="$work/$kind" "$python" -m segzoo kernel build > /dev/null
    for file in "$work/$kind"/kernels/*.so; do
        nm -D "$file" | grep -q "$1" || fail "$file is not instrumented"
    done
}

run() {
    for variant in $variants; do
        export SEGZOO_CPU_VARIANT="$variant"
        runs=$(watched -c "from segzoo import kernels; kernels.load(); print(kernels.describe())")
        if [ "$runs" != "native ($variant)" ]; then
            echo "== $kind sanitizer, $variant: left out, this processor runs $runs"
            continue
        fi
        echo "== $kind sanitizer, $variant"
        files=$(for family in $families; do echo "$here/test_$family.py"; done)
        # -s: a report must reach the terminal, not a test's capture.
        watched -m pytest -x -q -s -p no:cacheprovider -o faulthandler_timeout=300 $files -k "$skipped" \
            2> "$work/log" || {
            tail -80 "$work/log"
            fail "failed: $kind sanitizer, $variant"
        }
        if grep -E "runtime error|Sanitizer:" "$work/log"; then
            fail "reports: $kind sanitizer, $variant"
        fi
    done
}

for kind in ${*:-address thread}; do
    start=""
    case $kind in
        address)
            preloaded=$(library asan)
            preloaded="$preloaded $(library ubsan)"
            # Python keeps memory to its end: leaks are not looked for.
            export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
            wrapper address "-fsanitize=address,undefined -fno-sanitize-recover=undefined"
            build __asan_init
            must_find overrun "AddressSanitizer: heap-buffer-overflow"
            must_find overflow "runtime error: signed integer overflow"
            ;;
        thread)
            preloaded=$(library tsan)
            preloaded="$preloaded $work/threads.so"
            # Of what is not instrumented, such as OpenCV's own threads, it knows too little to say anything.
            export TSAN_OPTIONS="halt_on_error=1 exitcode=66 report_signal_unsafe=0 ignore_noninstrumented_modules=1"
            # Addresses must lie where ThreadSanitizer expects them: no randomisation.
            start="setarch $(uname -m) -R"
            wrapper thread "-fsanitize=thread"
            "$work/thread/g++" -std=c++20 -fPIC -shared "$here/sanitizer_threads.cpp" -o "$work/threads.so"
            build __tsan_init
            must_find race "ThreadSanitizer: data race"
            ;;
        *)
            echo "unknown sanitizer $kind: address or thread" >&2
            exit 2
            ;;
    esac
    run
done
echo "no reports"
