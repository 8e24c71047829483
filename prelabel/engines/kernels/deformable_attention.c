// Sampling for multi-scale deformable attention (Deformable DETR, section 4.1) on a CPU.
//
// Computes sampling locations, bilinear sampling and weighted sum in one pass. In PyTorch nearly
// all of the time goes into writing and reading the tensors between these steps.
//
// Arguments, all float32 but hw: value [B,S,H,C], S = positions of all levels; reference [B,Q,L,R]
// in 0..1, R = 2 (x, y) or 4 (cx, cy, w, h); offsets [B,Q,H,L,P,2], `stride` floats from query to
// query; weights [B,Q,H,L,P]; out [B,Q,H,C]; hw int64 [L,2], height and width of the levels. C is at
// most MAX_WIDTH.
// Threads are those of OpenMP, which PyTorch uses as well.
#include <stdint.h>

#define MAX_WIDTH 64    // channels of a head; _MAX_HEAD_WIDTH in deformable_attention.py
#define USUAL_WIDTH 32  // of all published checkpoints: 256 channels in 8 heads

// One library for old and new processors: the loader chooses the clone that fits.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

// Sample for one query in one head. Inlined, so that a constant width C keeps the sum in registers.
static inline __attribute__((always_inline)) void sample_head(
    const float *value, const int64_t *hw, const float *reference, const float *offsets,
    const float *weights, float *out, int64_t H, int64_t C, int64_t L, int64_t P, int64_t R) {
    float sum[MAX_WIDTH];
    for (int64_t c = 0; c < C; c++) sum[c] = 0;
    for (int64_t l = 0; l < L; l++, reference += R) {
        int64_t height = hw[2 * l], width = hw[2 * l + 1];
        // An offset of 1 moves the sampling point by this many positions of the level.
        float step_x = R == 2 ? 1 : reference[2] * 0.5f / P * width;
        float step_y = R == 2 ? 1 : reference[3] * 0.5f / P * height;
        float centre_x = reference[0] * width - 0.5f, centre_y = reference[1] * height - 0.5f;
        for (int64_t p = 0; p < P; p++, offsets += 2, weights++) {
            float x = centre_x + offsets[0] * step_x, y = centre_y + offsets[1] * step_y;
            if (!(x > -1 && y > -1 && x < width && y < height)) continue;  // true for NaN as well
            int64_t x0 = (int64_t)(x + 1) - 1, y0 = (int64_t)(y + 1) - 1;  // rounded down
            float east = x - x0, south = y - y0, west = 1 - east, north = 1 - south;
            // Values beyond the level are 0: a position inside is read instead, with a weight of 0.
            int64_t left = x0, right = x0 + 1, top = y0, bottom = y0 + 1;
            if (left < 0) left = 0, west = 0;
            if (right == width) right = left, east = 0;
            if (top < 0) top = 0, north = 0;
            if (bottom == height) bottom = top, south = 0;
            north *= *weights, south *= *weights;
            const float *nw = value + (top * width + left) * H * C;
            const float *ne = value + (top * width + right) * H * C;
            const float *sw = value + (bottom * width + left) * H * C;
            const float *se = value + (bottom * width + right) * H * C;
            for (int64_t c = 0; c < C; c++)
                sum[c] += north * (west * nw[c] + east * ne[c]) +
                          south * (west * sw[c] + east * se[c]);
        }
        value += height * width * H * C;
    }
    for (int64_t c = 0; c < C; c++) out[c] = sum[c];
}

FOR_EACH_PROCESSOR static void sample_query(
    const float *value, const int64_t *hw, const float *reference, const float *offsets,
    const float *weights, float *out, int64_t H, int64_t C, int64_t L, int64_t P, int64_t R) {
    for (int64_t h = 0; h < H; h++) {
        if (C == USUAL_WIDTH)
            sample_head(value, hw, reference, offsets, weights, out, H, USUAL_WIDTH, L, P, R);
        else
            sample_head(value, hw, reference, offsets, weights, out, H, C, L, P, R);
        value += C, out += C, offsets += L * P * 2, weights += L * P;
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
