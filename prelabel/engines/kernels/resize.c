// Resizing of RGB pictures: the values of Pillow's filters, bit for bit, in a fifth of the time.
//
// Ported from ImagingResampleHorizontal_8bpc and ImagingResampleVertical_8bpc of Pillow's
// src/libImaging/Resample.c: weights of 22 bits, sums of 32, rounded to 8 after each direction.
// Pillow computes one pixel at a time. Here a register holds neighbours across the direction.
//
// Each of the N output indices of a direction has the first of its T input indices, `first` int64
// [N], and their weights, int32 [N,T]. All of these indices exist.
#include <stdint.h>

#define PRECISION_BITS 22  // PRECISION_BITS of Pillow: 32 - 8 bits of a pixel - 2 for the sum
#define ROWS 16            // that are resized side by side; _ROWS in resize.py
#define CHANNELS 3
#define SPAN (CHANNELS * ROWS)  // bytes that are summed at a time

// One library for old and new processors: the loader chooses the clone that fits.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

// Write `bytes` weighted sums of T rows. The weights are positive and their sum is 1, so that no sum
// leaves the range of a byte.
static inline __attribute__((always_inline)) void weighted_sums(
    const uint8_t *rows, int64_t stride, const int32_t *weights, uint8_t *out, int bytes,
    int64_t T) {
    int32_t sums[SPAN];
    for (int i = 0; i < bytes; i++) sums[i] = 1 << (PRECISION_BITS - 1);
    for (int64_t t = 0; t < T; t++, rows += stride)
        for (int i = 0; i < bytes; i++) sums[i] += weights[t] * rows[i];
    for (int i = 0; i < bytes; i++) out[i] = (uint8_t)(sums[i] >> PRECISION_BITS);
}

// Transpose ROWS x ROWS bytes, from and to rows at any addresses.
#ifdef __SSE2__
#include <emmintrin.h>

static inline void transpose(const uint8_t *const *from, uint8_t *const *to) {
    __m128i a[ROWS], b[ROWS];
    for (int i = 0; i < ROWS; i++) a[i] = _mm_loadu_si128((const __m128i *)from[i]);
    for (int round = 0; round < 4; round++) {  // each interleaves row i with row i + 8
        for (int i = 0; i < ROWS / 2; i++) {
            b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + ROWS / 2]);
            b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + ROWS / 2]);
        }
        for (int i = 0; i < ROWS; i++) a[i] = b[i];
    }
    for (int i = 0; i < ROWS; i++) _mm_storeu_si128((__m128i *)to[i], a[i]);
}
#else
static inline void transpose(const uint8_t *const *from, uint8_t *const *to) {
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < ROWS; j++) to[j][i] = from[i][j];
}
#endif

// Write ROWS rows of `bytes` bytes as columns [bytes,ROWS].
static void to_columns(const uint8_t *const *rows, uint8_t *columns, int64_t bytes) {
    int64_t i = 0;
    for (; i + ROWS <= bytes; i += ROWS) {
        const uint8_t *from[ROWS];
        uint8_t *to[ROWS];
        for (int r = 0; r < ROWS; r++) from[r] = rows[r] + i, to[r] = columns + (i + r) * ROWS;
        transpose(from, to);
    }
    for (; i < bytes; i++)
        for (int r = 0; r < ROWS; r++) columns[i * ROWS + r] = rows[r][i];
}

static void to_rows(const uint8_t *columns, uint8_t *const *rows, int64_t bytes) {
    int64_t i = 0;
    for (; i + ROWS <= bytes; i += ROWS) {
        const uint8_t *from[ROWS];
        uint8_t *to[ROWS];
        for (int r = 0; r < ROWS; r++) from[r] = columns + (i + r) * ROWS, to[r] = rows[r] + i;
        transpose(from, to);
    }
    for (; i < bytes; i++)
        for (int r = 0; r < ROWS; r++) rows[r][i] = columns[i * ROWS + r];
}

FOR_EACH_PROCESSOR
static void sum_pixels(const uint8_t *columns, const int64_t *first, const int32_t *weights,
                       uint8_t *out, int64_t N, int64_t T) {
    for (int64_t x = 0; x < N; x++)
        weighted_sums(columns + first[x] * SPAN, SPAN, weights + x * T, out + x * SPAN, SPAN, T);
}

FOR_EACH_PROCESSOR
static void sum_rows(const uint8_t *rows, int64_t stride, const int32_t *weights, uint8_t *out,
                     int64_t bytes, int64_t T) {
    int64_t i = 0;
    for (; i + SPAN <= bytes; i += SPAN) weighted_sums(rows + i, stride, weights, out + i, SPAN, T);
    weighted_sums(rows + i, stride, weights, out + i, (int)(bytes - i), T);
}

// Resize each row: pixels uint8 [H,W,3], rows `stride` bytes apart, to out uint8 [H,N,3].
// `columns` and `sums` are scratch, uint8 [W*3,ROWS] and [N*3,ROWS].
void resize_rows(const uint8_t *pixels, const int64_t *first, const int32_t *weights,
                 uint8_t *columns, uint8_t *sums, uint8_t *out, int64_t stride, int64_t H,
                 int64_t W, int64_t N, int64_t T) {
    for (int64_t y = 0; y < H; y += ROWS) {
        const uint8_t *from[ROWS];
        uint8_t *to[ROWS];
        for (int r = 0; r < ROWS; r++) {  // rows beyond the last one repeat it
            int64_t row = y + r < H ? y + r : H - 1;
            from[r] = pixels + row * stride, to[r] = out + row * N * CHANNELS;
        }
        to_columns(from, columns, W * CHANNELS);
        sum_pixels(columns, first, weights, sums, N, T);
        to_rows(sums, to, N * CHANNELS);
    }
}

// Resize each column: pixels uint8 [H,W,3], rows `stride` bytes apart, to out uint8 [N,W,3].
void resize_columns(const uint8_t *pixels, const int64_t *first, const int32_t *weights,
                    uint8_t *out, int64_t stride, int64_t W, int64_t N, int64_t T) {
    int64_t bytes = W * CHANNELS;
    for (int64_t y = 0; y < N; y++)
        sum_rows(pixels + first[y] * stride, stride, weights + y * T, out + y * bytes, bytes, T);
}
