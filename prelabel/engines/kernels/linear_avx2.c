// Linear layers in float32 on AMD's processors, and on others with AVX2 and without AVX-512. PyTorch
// calls MKL there, which takes up to twice as long for narrow layers, and these networks have many
// narrow layers. If another program occupies a core, MKL also waits for its slowest thread; here the
// threads take work as they get done.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma")))
#define VECTOR __m256
#define LANES 8
#define COLUMNS 16
#define STRIP 6  // 12 of 16 registers hold sums
#define HALF 3
#define READ _mm256_loadu_ps
#define READ_SOME(from, count) _mm256_maskload_ps(from, first(count))
#define WRITE _mm256_storeu_ps
#define WRITE_SOME(to, count, values) _mm256_maskstore_ps(to, first(count), values)
#define FILL _mm256_set1_ps
#define MULTIPLY_ADD _mm256_fmadd_ps
#define MAXIMUM _mm256_max_ps
#define PACKED_SIZE avx2_packed_size
#define PACK avx2_pack
#define RUN avx2_run
#define RUN_BOTH avx2_run_both

// Returns the mask of the first `count` lanes.
TARGET static inline __m256i first(long count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

#include "linear_fma.h"

int avx2_is_available(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           (!__builtin_cpu_supports("avx512f") || __builtin_cpu_is("amd"));
}
#else
int avx2_is_available(void) { return 0; }
#endif
