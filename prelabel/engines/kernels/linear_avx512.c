// Linear layers in float32 on AMD's processors since Zen 5, which have registers and units of 512
// bits. Zen 4 computes them in two halves, and linear_avx2.c is a twentieth faster there.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <cpuid.h>
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f")))
#define VECTOR __m512
#define LANES 16
#define COLUMNS 32
#define STRIP 12  // 24 of 32 registers hold sums
#define HALF 4
#define READ _mm512_loadu_ps
#define READ_SOME(from, count) _mm512_maskz_loadu_ps(first(count), from)
#define WRITE _mm512_storeu_ps
#define WRITE_SOME(to, count, values) _mm512_mask_storeu_ps(to, first(count), values)
#define FILL _mm512_set1_ps
#define MULTIPLY_ADD _mm512_fmadd_ps
#define MAXIMUM _mm512_max_ps
#define PACKED_SIZE avx512_packed_size
#define PACK avx512_pack
#define RUN avx512_run
#define RUN_BOTH avx512_run_both

// Returns the mask of the first `count` lanes.
TARGET static inline __mmask16 first(long count) {
    return count > 0 ? (__mmask16)((1u << count) - 1) : 0;
}

#include "linear_fma.h"

int avx512_is_available(void) {
    unsigned family = 0, unused;
    __get_cpuid(1, &family, &unused, &unused, &unused);
    // The base family is 15, and 11 are added since Zen 5.
    return __builtin_cpu_is("amd") && __builtin_cpu_supports("avx512f") &&
           (family >> 8 & 15) + (family >> 20 & 255) >= 15 + 11;
}
#else
int avx512_is_available(void) { return 0; }
#endif
