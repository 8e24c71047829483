// Linear layers in float32 by the bfloat16 tiles of AMX (Intel, since Sapphire Rapids).
//
// Except for its last 8 bits, a float is the sum of two bfloat16 numbers: x = h + l. The product of
// two such sums without l * l needs three bfloat16 products, which the tiles add in float32. Its
// error is no larger than that of a float32 product (Henry, Tang, Heinecke: "Leveraging the
// bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations", 2019). Three
// bfloat16 products in tiles still take half the time of one float32 product in AVX-512.
//
// y [M,N] = x [M,K] w [N,K]^T + bias [N], float32, with x_step and y_step floats from row to row.
// `amx_pack` lays w out in tiles, once.
#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11 && \
    defined(__linux__)
#include <immintrin.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AMX __attribute__((target("avx512f,avx512bf16,avx512bw,avx512vl,amx-tile,amx-bf16")))
#define SIDE 16              // rows of a tile, and columns of a tile of results
#define DEPTH 32             // bfloat16 numbers in a row of a tile
#define TILE (SIDE * DEPTH)  // bfloat16 numbers in a tile, 1 KB
#define PAIR (2 * SIDE)      // side of the two by two tiles of results that are computed at a time
#define ROWS 128             // rows of x that are split at a time and share the cached weights

static int64_t round_up(int64_t number, int64_t step) { return (number + step - 1) / step * step; }

// Returns nonzero if processor and kernel have AMX. Requests the permission to use it, which Linux
// gives to the whole process.
int amx_is_available(void) {
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vl") &&
           syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* XTILEDATA */) == 0;
}

// Returns the bytes of `packed`: for each 16 columns of y and each 32 of K, a tile of h, then of l.
int64_t amx_packed_size(int64_t N, int64_t K) {
    return round_up(N, PAIR) * round_up(K, DEPTH) * 2 * (int64_t)sizeof(uint16_t);
}

AMX static inline void split(__m512 a, __m512 b, __m512i *high, __m512i *low) {
    // vcvtne2ps2bf16 packs both registers into one; its second argument fills the lower half.
    __m512i packed = (__m512i)_mm512_cvtne2ps_pbh(b, a);
    __m512 a_high = (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(packed)), 16);
    __m512 b_high = (__m512)_mm512_slli_epi32(
        _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(packed, 1)), 16);
    *high = packed;
    *low = (__m512i)_mm512_cvtne2ps_pbh(_mm512_sub_ps(b, b_high), _mm512_sub_ps(a, a_high));
}

// Packs w into tiles for the right-hand side of the product: each row of a tile holds pairs of K.
AMX void amx_pack(const float *w, uint16_t *packed, int64_t N, int64_t K) {
    int64_t columns = round_up(N, PAIR), depth = round_up(K, DEPTH);
    for (int64_t n = 0; n < columns; n++)
        for (int64_t k = 0; k < depth; k += DEPTH) {
            float row[DEPTH] = {0};
            uint16_t parts[2][DEPTH];
            __m512i high, low;
            if (n < N) memcpy(row, w + n * K + k, (K - k < DEPTH ? K - k : DEPTH) * sizeof *row);
            split(_mm512_loadu_ps(row), _mm512_loadu_ps(row + SIDE), &high, &low);
            _mm512_storeu_si512(parts[0], high);
            _mm512_storeu_si512(parts[1], low);
            uint16_t *tiles = packed + (n / SIDE * (depth / DEPTH) + k / DEPTH) * 2 * TILE;
            for (int part = 0; part < 2; part++)
                for (int i = 0; i < DEPTH; i++)
                    tiles[part * TILE + i / 2 * DEPTH + n % SIDE * 2 + i % 2] = parts[part][i];
        }
}

// Packs `rows` rows of x into tiles for the left-hand side; missing rows are filled with 0.
AMX static void split_rows(const float *x, uint16_t *tiles, int64_t rows, int64_t K,
                           int64_t x_step) {
    int64_t depth = round_up(K, DEPTH);
    for (int64_t m = 0; m < round_up(rows, PAIR); m++)
        for (int64_t k = 0; k < depth; k += DEPTH) {
            uint16_t *tile = tiles + (m / SIDE * (depth / DEPTH) + k / DEPTH) * 2 * TILE + m % SIDE * DEPTH;
            int64_t left = m < rows ? K - k : 0;
            __mmask16 first = left >= SIDE ? 0xffff : (1u << left) - 1;
            __mmask16 second = left >= DEPTH ? 0xffff : left > SIDE ? (1u << (left - SIDE)) - 1 : 0;
            __m512i high, low;
            split(_mm512_maskz_loadu_ps(first, x + m * x_step + k),
                  _mm512_maskz_loadu_ps(second, x + m * x_step + k + SIDE), &high, &low);
            _mm512_storeu_si512(tile, high);
            _mm512_storeu_si512(tile + TILE, low);
        }
}

// Computes two by two tiles of results, 32 rows by 32 columns. Tiles 0 to 3 hold the sums, 4 and 5
// parts of x, 6 and 7 parts of w; the products are l*h, h*h and h*l.
AMX static void multiply(const uint16_t *a, const uint16_t *b, int64_t steps, float *results) {
    const uint16_t *a_next = a + steps * 2 * TILE, *b_next = b + steps * 2 * TILE;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t i = 0; i < steps; i++, a += 2 * TILE, a_next += 2 * TILE, b += 2 * TILE, b_next += 2 * TILE) {
        _tile_loadd(4, a + TILE, 64);
        _tile_loadd(5, a_next + TILE, 64);
        _tile_loadd(6, b, 64);
        _tile_loadd(7, b_next, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        _tile_loadd(4, a, 64);
        _tile_loadd(5, a_next, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        _tile_loadd(6, b + TILE, 64);
        _tile_loadd(7, b_next + TILE, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, results, PAIR * sizeof *results);
    _tile_stored(1, results + SIDE, PAIR * sizeof *results);
    _tile_stored(2, results + SIDE * PAIR, PAIR * sizeof *results);
    _tile_stored(3, results + SIDE * PAIR + SIDE, PAIR * sizeof *results);
}

// Adds the bias to results, applies the ReLU, and writes the rows and columns that exist to y.
AMX static void store(const float *results, const float *bias, float *y, int64_t rows,
                      int64_t columns, int64_t y_step, int relu) {
    __mmask16 first = columns >= SIDE ? 0xffff : (1u << columns) - 1;
    __mmask16 second = columns >= PAIR ? 0xffff : columns > SIDE ? (1u << (columns - SIDE)) - 1 : 0;
    __m512 left = _mm512_maskz_loadu_ps(first, bias), right = _mm512_maskz_loadu_ps(second, bias + SIDE);
    __m512 least = _mm512_set1_ps(relu ? 0 : -__builtin_inff());
    for (int64_t m = 0; m < rows && m < PAIR; m++, results += PAIR, y += y_step) {
        __m512 a = _mm512_add_ps(_mm512_loadu_ps(results), left);
        __m512 b = _mm512_add_ps(_mm512_loadu_ps(results + SIDE), right);
        _mm512_mask_storeu_ps(y, first, _mm512_max_ps(least, a));
        _mm512_mask_storeu_ps(y + SIDE, second, _mm512_max_ps(least, b));
    }
}

struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

AMX static int run(const float *x, const uint16_t *packed, const float *bias, float *y, int64_t M,
                   int64_t N, int64_t K, int64_t x_step, int64_t y_step, int relu, int64_t chunk) {
    int64_t steps = round_up(K, DEPTH) / DEPTH, chunks = (N + chunk - 1) / chunk;
    int failed = 0;
#pragma omp parallel
    {
        struct tile_config before, config = {.palette = 1};
        for (int i = 0; i < 8; i++) config.row_bytes[i] = 64, config.rows[i] = SIDE;
        uint16_t *tiles = aligned_alloc(64, ROWS * steps * DEPTH * 2 * sizeof *tiles);
        float results[PAIR * PAIR] __attribute__((aligned(64)));
        int64_t split_from = -1;
        _tile_storeconfig(&before);
        _tile_loadconfig(&config);
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t from = 0; from < M; from += ROWS)
            for (int64_t c = 0; c < chunks; c++) {
                int64_t rows = M - from < ROWS ? M - from : ROWS;
                int64_t end = (c + 1) * chunk < N ? (c + 1) * chunk : N;
                if (tiles == NULL) {
                    failed = 1;
                    continue;
                }
                if (split_from != from) split_rows(x + from * x_step, tiles, rows, K, x_step);
                split_from = from;
                for (int64_t n = c * chunk; n < end; n += PAIR)
                    for (int64_t m = 0; m < rows; m += PAIR) {
                        multiply(tiles + m / SIDE * steps * 2 * TILE,
                                 packed + n / SIDE * steps * 2 * TILE, steps, results);
                        store(results, bias + n, y + (from + m) * y_step + n, rows - m, N - n, y_step,
                              relu);
                    }
            }
        _tile_loadconfig(&before);  // other libraries expect their own configuration
        free(tiles);
    }
    return failed;
}

// Computes y. Returns 0, or 1 if memory is short. With few rows, columns are split among threads,
// too.
int amx_run(const float *x, const uint16_t *packed, const float *bias, float *y, int64_t M,
            int64_t N, int64_t K, int64_t x_step, int64_t y_step, int relu) {
    int64_t chunk = M >= 8 * ROWS ? round_up(N, PAIR) : round_up(N / 8 + 1, PAIR);
    return run(x, packed, bias, y, M, N, K, x_step, y_step, relu, chunk);
}
#else
int amx_is_available(void) { return 0; }
#endif
