// Gradients of the sampling in multi-scale deformable attention (Deformable DETR, section 4.1), in
// float32. The forward pass is `sample` in prelabel/engines/kernels/deformable_attention.c, which
// describes the arguments.
//
// Adds to the gradients of value, and writes those of offsets and weights; all must be 0 before.
// The reference points get no gradient, because the model detaches them.
#include <math.h>

#define C 32  // channels of a head

void backward(const float *value, const long *hw, const float *reference, const float *offsets,
              const float *weights, const float *grad_out, float *grad_value, float *grad_offsets,
              float *grad_weights, long B, long S, long H, long Q, long L, long P, long R) {
    // All queries of a head add to the same gradients of values, so only pictures and heads run in
    // parallel.
#pragma omp parallel for collapse(2) schedule(static)
    for (long b = 0; b < B; b++)
        for (long h = 0; h < H; h++)
            for (long q = 0; q < Q; q++) {
                long head = (b * Q + q) * H + h, start = 0, at = head * L * P;
                const float *g = grad_out + head * C;
                for (long l = 0; l < L; l++) {
                    long height = hw[2 * l], width = hw[2 * l + 1];
                    const float *ref = reference + ((b * Q + q) * L + l) * R;
                    // An offset of 1 moves the sampling point by this many positions.
                    float step_x = R == 2 ? 1 : ref[2] * 0.5f / P * width;
                    float step_y = R == 2 ? 1 : ref[3] * 0.5f / P * height;
                    for (long p = 0; p < P; p++, at++) {
                        float x = ref[0] * width - 0.5f + offsets[2 * at] * step_x;
                        float y = ref[1] * height - 0.5f + offsets[2 * at + 1] * step_y;
                        if (!(x > -1 && y > -1 && x < width && y < height)) continue;
                        long x0 = (long)floorf(x), y0 = (long)floorf(y);
                        float fx = x - x0, fy = y - y0, by_weight = 0, by_x = 0, by_y = 0;
                        for (int k = 0; k < 4; k++) {
                            long xx = x0 + (k & 1), yy = y0 + (k >> 1);
                            if (xx < 0 || yy < 0 || xx >= width || yy >= height) continue;
                            float cx = (k & 1) ? fx : 1 - fx, cy = (k >> 1) ? fy : 1 - fy;
                            long from = ((b * S + start + yy * width + xx) * H + h) * C;
                            float dot = 0, share = weights[at] * cx * cy;
                            for (int c = 0; c < C; c++) {
                                dot += g[c] * value[from + c];
                                grad_value[from + c] += share * g[c];
                            }
                            by_weight += cx * cy * dot;
                            by_x += ((k & 1) ? 1 : -1) * cy * dot;
                            by_y += ((k >> 1) ? 1 : -1) * cx * dot;
                        }
                        grad_weights[at] = by_weight;
                        grad_offsets[2 * at] = weights[at] * by_x * step_x;
                        grad_offsets[2 * at + 1] = weights[at] * by_y * step_y;
                    }
                    start += height * width;
                }
            }
}
