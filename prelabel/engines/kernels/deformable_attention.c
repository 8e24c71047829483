// Sampling for multi-scale deformable attention (Deformable DETR, section 4.1) on a CPU.
//
// Computes sampling locations, bilinear sampling and weighted sum in one pass. In PyTorch nearly
// all of the time goes into writing and reading the tensors between these steps.
//
// Arguments, all float32 but hw: value [B,S,H,C], S = positions of all levels; reference [B,Q,L,R]
// in 0..1, R = 2 (x, y) or 4 (cx, cy, w, h); offsets [B,Q,H,L,P,2], `stride` floats from query to
// query; weights [B,Q,H,L,P]; out [B,Q,H,C]; hw int64 [L,2], height and width of the levels.
// Threads are those of OpenMP, which PyTorch uses as well.
#include <stdint.h>

#define POINTS 16    // that are placed at a time
#define CHANNELS 32  // that are added at a time: all of a head of the published checkpoints

// One library for old and new processors: the loader chooses the clone that fits.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define LANES 8  // floats in a register
#else
#define FOR_EACH_PROCESSOR
#define LANES 4
#endif

typedef float Lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float))));

// The sampling points of a query around its reference, before the offsets of a head.
struct Points {
    float centre_x[POINTS], centre_y[POINTS];  // in positions of the level
    float step_x[POINTS], step_y[POINTS];      // by which an offset of 1 moves a point
    float width[POINTS], height[POINTS];       // of the level
    int32_t columns[POINTS], first[POINTS];    // width of the level, and its first position
};

// The positions around the points of a head: NW, NE, SW, SE, and their shares in the sum.
struct Corners {
    int32_t position[4][POINTS];
    float share[4][POINTS];
};

static inline __attribute__((always_inline)) void place_points(struct Points *points,
                                                              const int64_t *hw,
                                                              const float *reference, int64_t from,
                                                              int64_t count, int64_t P, int64_t R) {
    int64_t first = 0;
    for (int64_t l = 0, i = -from; i < count; l++, reference += R) {
        int64_t height = hw[2 * l], width = hw[2 * l + 1];
        for (int64_t p = 0; p < P && i < count; p++, i++) {
            if (i < 0) continue;
            points->centre_x[i] = reference[0] * width - 0.5f;
            points->centre_y[i] = reference[1] * height - 0.5f;
            points->step_x[i] = R == 2 ? 1 : reference[2] * 0.5f / P * width;
            points->step_y[i] = R == 2 ? 1 : reference[3] * 0.5f / P * height;
            points->width[i] = width, points->height[i] = height;
            points->columns[i] = width, points->first[i] = first;
        }
        first += height * width;
    }
}

// Without branches, so that the compiler computes several points at once.
static inline __attribute__((always_inline)) void find_corners(struct Corners *corners,
                                                              const struct Points *points,
                                                              const float *offsets,
                                                              const float *weights, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        float x = points->centre_x[i] + offsets[2 * i] * points->step_x[i];
        float y = points->centre_y[i] + offsets[2 * i + 1] * points->step_y[i];
        int inside = (x > -1) & (y > -1) & (x < points->width[i]) & (y < points->height[i]);
        x = inside ? x : 0, y = inside ? y : 0;  // also for NaN
        float weight = inside ? weights[i] : 0;
        int32_t left = (int32_t)(x + 1) - 1, top = (int32_t)(y + 1) - 1;  // rounded down
        float east = x - left, south = y - top, west = 1 - east, north = 1 - south;
        // Values beyond the level are 0: a position inside is read instead, with a share of 0.
        int32_t columns = points->columns[i], rows = (int32_t)points->height[i];
        int32_t right = left + 1, bottom = top + 1;
        west = left < 0 ? 0 : west, left = left < 0 ? 0 : left;
        east = right == columns ? 0 : east, right = right == columns ? columns - 1 : right;
        north = top < 0 ? 0 : north, top = top < 0 ? 0 : top;
        south = bottom == rows ? 0 : south, bottom = bottom == rows ? rows - 1 : bottom;
        north *= weight, south *= weight;
        int32_t upper = points->first[i] + top * columns, lower = points->first[i] + bottom * columns;
        corners->position[0][i] = upper + left, corners->share[0][i] = north * west;
        corners->position[1][i] = upper + right, corners->share[1][i] = north * east;
        corners->position[2][i] = lower + left, corners->share[2][i] = south * west;
        corners->position[3][i] = lower + right, corners->share[3][i] = south * east;
    }
}

// Add CHANNELS channels of the values of a head to `out`. Unrolled, so that all sums stay in registers.
static inline __attribute__((always_inline)) void add_channels(float *out, const float *value,
                                                              const struct Corners *corners,
                                                              int64_t count, int64_t step) {
    Lanes north[CHANNELS / LANES], south[CHANNELS / LANES];
#pragma GCC unroll 8
    for (int j = 0; j < CHANNELS / LANES; j++) {
        north[j] = ((const Lanes *)out)[j];
        south[j] = (Lanes){0};
    }
    for (int64_t i = 0; i < count; i++) {
        const Lanes *nw = (const Lanes *)(value + corners->position[0][i] * step);
        const Lanes *ne = (const Lanes *)(value + corners->position[1][i] * step);
        const Lanes *sw = (const Lanes *)(value + corners->position[2][i] * step);
        const Lanes *se = (const Lanes *)(value + corners->position[3][i] * step);
#pragma GCC unroll 8
        for (int j = 0; j < CHANNELS / LANES; j++) {
            north[j] += corners->share[0][i] * nw[j];
            south[j] += corners->share[2][i] * sw[j];
            north[j] += corners->share[1][i] * ne[j];
            south[j] += corners->share[3][i] * se[j];
        }
    }
#pragma GCC unroll 8
    for (int j = 0; j < CHANNELS / LANES; j++) ((Lanes *)out)[j] = north[j] + south[j];
}

static inline __attribute__((always_inline)) void add_channel(float *out, const float *value,
                                                             const struct Corners *corners,
                                                             int64_t count, int64_t step) {
    for (int64_t i = 0; i < count; i++)
        for (int corner = 0; corner < 4; corner++)
            *out += corners->share[corner][i] * value[corners->position[corner][i] * step];
}

FOR_EACH_PROCESSOR static void sample_query(
    const float *value, const int64_t *hw, const float *reference, const float *offsets,
    const float *weights, float *out, int64_t H, int64_t C, int64_t L, int64_t P, int64_t R) {
    struct Points points;
    struct Corners corners;
    for (int64_t c = 0; c < H * C; c++) out[c] = 0;
    for (int64_t from = 0; from < L * P; from += POINTS) {
        int64_t count = L * P - from < POINTS ? L * P - from : POINTS;
        place_points(&points, hw, reference, from, count, P, R);
        for (int64_t h = 0; h < H; h++) {
            int64_t i = h * L * P + from;
            find_corners(&corners, &points, offsets + 2 * i, weights + i, count);
            int64_t c = h * C, end = c + C;
            for (; c + CHANNELS <= end; c += CHANNELS)
                add_channels(out + c, value + c, &corners, count, H * C);
            for (; c < end; c++) add_channel(out + c, value + c, &corners, count, H * C);
        }
    }
}

void sample(const float *value, const int64_t *hw, const float *reference, const float *offsets,
            const float *weights, float *out, int64_t B, int64_t S, int64_t H, int64_t C,
            int64_t Q, int64_t L, int64_t P, int64_t R, int64_t stride) {
#pragma omp parallel for collapse(2) schedule(dynamic, 32)
    for (int64_t b = 0; b < B; b++)
        for (int64_t q = 0; q < Q; q++) {
            int64_t i = b * Q + q;
            sample_query(value + b * S * H * C, hw, reference + i * L * R,
                         offsets + i * stride, weights + i * H * L * P, out + i * H * C, H,
                         C, L, P, R);
        }
}
