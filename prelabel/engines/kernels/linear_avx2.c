// Linear layers in float32 on processors with AVX2 and without AVX-512: AMD's before Zen 4, and
// most laptops. PyTorch calls MKL there, which takes up to twice as long for narrow layers, and
// these networks have many narrow layers. If another program occupies a core, MKL also waits for
// its slowest thread; here the threads take work as they get done.
//
// y [M,N] = x [M,K] w [N,K]^T + bias [N], float32. `avx2_pack` lays w out in the order of reading,
// once: for each 16 columns of y, K times 16 numbers. The order of the sum over K is the same in
// all rows.
#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma")))
#define LANES 8              // floats in a register
#define COLUMNS (2 * LANES)  // columns of y that are computed at a time
#define STRIP 6              // rows of y that are computed at a time: 12 of 16 registers hold sums
#define DEPTH 256            // of K at a time: COLUMNS * DEPTH numbers of w stay in the L1 cache
#define ROWS 96              // rows of x that are multiplied with the numbers of w in the L1 cache

int avx2_is_available(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           !__builtin_cpu_supports("avx512f");
}

// Returns the bytes of `packed`.
int64_t avx2_packed_size(int64_t N, int64_t K) {
    return (N + COLUMNS - 1) / COLUMNS * COLUMNS * K * (int64_t)sizeof(float);
}

void avx2_pack(const float *w, float *packed, int64_t N, int64_t K) {
    for (int64_t n = 0; n < N; n += COLUMNS)
        for (int64_t k = 0; k < K; k++)
            for (int64_t i = 0; i < COLUMNS; i++)
                *packed++ = n + i < N ? w[(n + i) * K + k] : 0;
}

// Mask of the columns that exist among eight. Only used for the last ones: masked writes are slow.
AVX2 static inline __m256i existing(int64_t columns) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(columns < LANES ? (int)columns : LANES),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

AVX2 static inline __m256 read_columns(const float *from, int64_t columns) {
    return columns >= LANES ? _mm256_loadu_ps(from) : _mm256_maskload_ps(from, existing(columns));
}

AVX2 static inline void write_columns(float *to, int64_t columns, __m256 values) {
    if (columns >= LANES)
        _mm256_storeu_ps(to, values);
    else
        _mm256_maskstore_ps(to, existing(columns), values);
}

// Adds the products over `depth` numbers of K to `rows` by 16 results, which start as `bias`, or as
// the sums in y if that is null. Inlined for each number of rows, so that sums stay in registers.
AVX2 static inline __attribute__((always_inline)) void strip(
    int rows, const float *x, const float *w, const float *bias, float *y, int64_t columns,
    int64_t depth, int64_t K, int64_t N, int relu) {
    __m256 left[STRIP], right[STRIP];
#pragma GCC unroll 6
    for (int m = 0; m < rows; m++) {
        const float *from = bias ? bias : y + m * N;
        left[m] = read_columns(from, columns);
        right[m] = read_columns(from + LANES, columns - LANES);
    }
#pragma GCC unroll 4
    for (int64_t k = 0; k < depth; k++, w += COLUMNS) {
        __m256 a = _mm256_loadu_ps(w), b = _mm256_loadu_ps(w + LANES);
#pragma GCC unroll 6
        for (int m = 0; m < rows; m++) {
            __m256 number = _mm256_broadcast_ss(x + m * K + k);
            left[m] = _mm256_fmadd_ps(number, a, left[m]);
            right[m] = _mm256_fmadd_ps(number, b, right[m]);
        }
    }
    __m256 least = _mm256_set1_ps(relu ? 0 : -__builtin_inff());
#pragma GCC unroll 6
    for (int m = 0; m < rows; m++) {
        // NaN stays NaN: for NaN the instruction returns its second operand.
        write_columns(y + m * N, columns, _mm256_max_ps(least, left[m]));
        write_columns(y + m * N + LANES, columns - LANES, _mm256_max_ps(least, right[m]));
    }
}

// Calls `strip`. With all 16 columns their number is a constant, so that no write is masked.
AVX2 static inline __attribute__((always_inline)) void wide_or_narrow(
    int rows, const float *x, const float *w, const float *bias, float *y, int64_t columns,
    int64_t depth, int64_t K, int64_t N, int relu) {
    if (columns >= COLUMNS)
        strip(rows, x, w, bias, y, COLUMNS, depth, K, N, relu);
    else
        strip(rows, x, w, bias, y, columns, depth, K, N, relu);
}

AVX2 static void strip_of(int64_t rows, const float *x, const float *w, const float *bias, float *y,
                          int64_t columns, int64_t depth, int64_t K, int64_t N, int relu) {
    switch (rows) {
        case 1: wide_or_narrow(1, x, w, bias, y, columns, depth, K, N, relu); break;
        case 2: wide_or_narrow(2, x, w, bias, y, columns, depth, K, N, relu); break;
        case 3: wide_or_narrow(3, x, w, bias, y, columns, depth, K, N, relu); break;
        case 4: wide_or_narrow(4, x, w, bias, y, columns, depth, K, N, relu); break;
        case 5: wide_or_narrow(5, x, w, bias, y, columns, depth, K, N, relu); break;
        default: wide_or_narrow(6, x, w, bias, y, columns, depth, K, N, relu);
    }
}

// Computes y. With few rows, columns are split among threads, too. Returns 0, as nothing can fail.
int avx2_run(const float *x, const float *packed, const float *bias, float *y, int64_t M, int64_t N,
             int64_t K, int relu) {
    int64_t panels = (N + COLUMNS - 1) / COLUMNS;
    int64_t chunk = M >= 8 * ROWS ? panels : panels / 8 + 1, chunks = (panels + chunk - 1) / chunk;
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t from = 0; from < M; from += ROWS)
        for (int64_t c = 0; c < chunks; c++) {
            int64_t rows = M - from < ROWS ? M - from : ROWS;
            int64_t end = (c + 1) * chunk < panels ? (c + 1) * chunk : panels;
            for (int64_t k = 0; k < K; k += DEPTH) {
                int64_t depth = K - k < DEPTH ? K - k : DEPTH;
                int is_last = k + depth == K;
                for (int64_t panel = c * chunk; panel < end; panel++) {
                    int64_t n = panel * COLUMNS;
                    for (int64_t m = 0; m < rows; m += STRIP)
                        strip_of(rows - m, x + (from + m) * K + k, packed + n * K + k * COLUMNS,
                                 k == 0 ? bias + n : 0, y + (from + m) * N + n, N - n, depth, K, N,
                                 relu && is_last);
                }
            }
        }
    return 0;
}
#else
int avx2_is_available(void) { return 0; }
#endif
