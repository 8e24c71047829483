// Linear layers in float32 by fused multiply-add: the part that AVX2 and AVX-512 share.
//
// y [M,N] = x [M,K] w [N,K]^T + bias [N], float32, with x_step and y_step floats from row to row.
// `PACK` lays w out in the order of reading, once: for each COLUMNS columns of y, K times COLUMNS
// numbers. The order of the sum over K is the same in all rows.
//
// The including file defines: TARGET, an attribute of functions; VECTOR and LANES, a register and
// the floats in it; COLUMNS, two registers; STRIP and HALF, rows of y that are computed at a time,
// such that two registers for each row hold the sums; READ, READ_SOME, WRITE, WRITE_SOME, FILL,
// MULTIPLY_ADD and MAXIMUM, operations on registers; PACKED_SIZE, PACK, RUN and RUN_BOTH, names.
#include <stdint.h>
#include <stdlib.h>

#define DEPTH 1024   // of K at a time: COLUMNS * DEPTH numbers of w stay in the second cache
#define ROWS 96      // rows of x that are multiplied with the numbers of w in the cache
#define FEW_ROWS 48  // the same for two layers: the numbers between them stay in the second cache

static int64_t panels_of(int64_t N) { return (N + COLUMNS - 1) / COLUMNS; }

// Returns the bytes of `packed`.
int64_t PACKED_SIZE(int64_t N, int64_t K) {
    return panels_of(N) * COLUMNS * K * (int64_t)sizeof(float);
}

void PACK(const float *w, float *packed, int64_t N, int64_t K) {
    for (int64_t n = 0; n < N; n += COLUMNS)
        for (int64_t k = 0; k < K; k++)
            for (int64_t i = 0; i < COLUMNS; i++)
                *packed++ = n + i < N ? w[(n + i) * K + k] : 0;
}

// Masked writes are slow, and only needed for the last columns.
TARGET static inline VECTOR read_columns(const float *from, int64_t columns) {
    return columns >= LANES ? READ(from) : READ_SOME(from, columns);
}

TARGET static inline void write_columns(float *to, int64_t columns, VECTOR values) {
    if (columns >= LANES)
        WRITE(to, values);
    else
        WRITE_SOME(to, columns, values);
}

// Adds the products over `depth` numbers of K to `rows` by COLUMNS results, which start as `bias`, or
// as the sums in y if that is null. Inlined for each number of rows, so that sums stay in registers.
TARGET static inline __attribute__((always_inline)) void strip(
    int rows, const float *x, const float *w, const float *bias, float *y, int64_t columns,
    int64_t depth, int64_t x_step, int64_t y_step, int relu) {
    VECTOR left[STRIP], right[STRIP];
#pragma GCC unroll 16
    for (int m = 0; m < rows; m++) {
        const float *from = bias ? bias : y + m * y_step;
        left[m] = read_columns(from, columns);
        right[m] = read_columns(from + LANES, columns - LANES);
    }
#pragma GCC unroll 4
    for (int64_t k = 0; k < depth; k++, w += COLUMNS) {
        VECTOR a = READ(w), b = READ(w + LANES);
#pragma GCC unroll 16
        for (int m = 0; m < rows; m++) {
            VECTOR number = FILL(x[m * x_step + k]);
            left[m] = MULTIPLY_ADD(number, a, left[m]);
            right[m] = MULTIPLY_ADD(number, b, right[m]);
        }
    }
    VECTOR least = FILL(relu ? 0 : -__builtin_inff());
#pragma GCC unroll 16
    for (int m = 0; m < rows; m++) {
        // NaN stays NaN: for NaN the instruction returns its second operand.
        write_columns(y + m * y_step, columns, MAXIMUM(least, left[m]));
        write_columns(y + m * y_step + LANES, columns - LANES, MAXIMUM(least, right[m]));
    }
}

// Calls `strip`. With all COLUMNS columns their number is a constant, so that no write is masked.
TARGET static inline __attribute__((always_inline)) void wide_or_narrow(
    int rows, const float *x, const float *w, const float *bias, float *y, int64_t columns,
    int64_t depth, int64_t x_step, int64_t y_step, int relu) {
    if (columns >= COLUMNS)
        strip(rows, x, w, bias, y, COLUMNS, depth, x_step, y_step, relu);
    else
        strip(rows, x, w, bias, y, columns, depth, x_step, y_step, relu);
}

// Computes as many of the rows as fit a strip. Returns their number.
TARGET static int64_t strip_of(int64_t rows, const float *x, const float *w, const float *bias,
                               float *y, int64_t columns, int64_t depth, int64_t x_step,
                               int64_t y_step, int relu) {
    if (rows >= STRIP) {
        wide_or_narrow(STRIP, x, w, bias, y, columns, depth, x_step, y_step, relu);
        return STRIP;
    }
    if (rows >= HALF) {
        wide_or_narrow(HALF, x, w, bias, y, columns, depth, x_step, y_step, relu);
        return HALF;
    }
    wide_or_narrow(1, x, w, bias, y, columns, depth, x_step, y_step, relu);
    return 1;
}

// Computes the columns of the panels from `panel` to `end`, for at most ROWS rows.
TARGET static void block(int64_t rows, const float *x, const float *packed, const float *bias,
                         float *y, int64_t panel, int64_t end, int64_t N, int64_t K, int64_t x_step,
                         int64_t y_step, int relu) {
    for (int64_t k = 0; k < K; k += DEPTH) {
        int64_t depth = K - k < DEPTH ? K - k : DEPTH;
        int is_last = k + depth == K;
        for (int64_t n = panel * COLUMNS; n < end * COLUMNS; n += COLUMNS)
            for (int64_t m = 0; m < rows;)
                m += strip_of(rows - m, x + m * x_step + k, packed + n * K + k * COLUMNS,
                              k == 0 ? bias + n : 0, y + m * y_step + n, N - n, depth, x_step,
                              y_step, relu && is_last);
    }
}

// Computes y. With few rows, columns are split among threads, too. Returns 0, as nothing can fail.
int RUN(const float *x, const float *packed, const float *bias, float *y, int64_t M, int64_t N,
        int64_t K, int64_t x_step, int64_t y_step, int relu) {
    int64_t panels = panels_of(N);
    int64_t chunk = M >= 8 * ROWS ? panels : panels / 8 + 1, chunks = (panels + chunk - 1) / chunk;
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t from = 0; from < M; from += ROWS)
        for (int64_t c = 0; c < chunks; c++)
            block(M - from < ROWS ? M - from : ROWS, x + from * x_step, packed, bias,
                  y + from * y_step, c * chunk, (c + 1) * chunk < panels ? (c + 1) * chunk : panels,
                  N, K, x_step, y_step, relu);
    return 0;
}

// y [M,N] = max(0, x [M,K] w [H,K]^T + bias [H]) v [N,H]^T + shift [N]. The numbers in the middle
// stay in the caches. Returns 0, or 1 if memory is short.
int RUN_BOTH(const float *x, const float *packed, const float *bias, const float *packed_v,
             const float *shift, float *y, int64_t M, int64_t N, int64_t H, int64_t K) {
    int64_t step = H + LANES;  // rows that begin a multiple of 4 KB apart share few cache lines
    int failed = 0;
#pragma omp parallel
    {
        float *hidden = malloc(FEW_ROWS * step * sizeof *hidden);
#pragma omp for schedule(dynamic)
        for (int64_t from = 0; from < M; from += FEW_ROWS) {
            int64_t rows = M - from < FEW_ROWS ? M - from : FEW_ROWS;
            if (hidden == NULL) {
                failed = 1;
                continue;
            }
            block(rows, x + from * K, packed, bias, hidden, 0, panels_of(H), H, K, K, step, 1);
            block(rows, hidden, packed_v, shift, y + from * N, 0, panels_of(N), N, H, step, N, 0);
        }
        free(hidden);
    }
    return failed;
}
