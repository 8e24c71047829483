// Multi-scale deformable attention (Deformable DETR, section 4.1), forward and backward, in float32.
//
// Softmax of the attention logits, the sampling locations and the bilinear sampling in one pass:
// on a CPU most of the time of the PyTorch version goes into the tensors between them.
//
// value [B,S,H,D], S = positions of all levels; hw [L,2] height and width of the levels;
// reference [B,Q,L,R] in 0..1, R = 2 (x, y) or 4 (cx, cy, w, h); offsets [B,Q,H,L,P,2];
// logits [B,Q,H,L*P]; out [B,Q,H,D].
#include <math.h>
#include <string.h>

#define D 32
#define MAX_SAMPLES 64

static void softmax(const float *logits, float *weights, long n) {
    float top = logits[0], sum = 0;
    for (long i = 1; i < n; i++) top = fmaxf(top, logits[i]);
    for (long i = 0; i < n; i++) sum += weights[i] = expf(logits[i] - top);
    for (long i = 0; i < n; i++) weights[i] /= sum;
}

// How much an offset of one moves the sampling point, in 0..1 of the picture.
static inline void offset_scale(const float *ref, long R, long height, long width, long P,
                                float *sx, float *sy) {
    *sx = R == 2 ? 1.0f / width : ref[2] * 0.5f / P;
    *sy = R == 2 ? 1.0f / height : ref[3] * 0.5f / P;
}

void forward(const float *value, const long *hw, const float *reference, const float *offsets,
             const float *logits, float *out, long B, long S, long H, long Q, long L, long P, long R) {
#pragma omp parallel for collapse(2) schedule(static)
    for (long b = 0; b < B; b++)
        for (long q = 0; q < Q; q++)
            for (long h = 0; h < H; h++) {
                long head = (b * Q + q) * H + h, start = 0;
                const float *offset = offsets + head * L * P * 2;
                float weights[MAX_SAMPLES], sum[D];
                softmax(logits + head * L * P, weights, L * P);
                memset(sum, 0, sizeof sum);
                for (long l = 0; l < L; l++) {
                    long height = hw[2 * l], width = hw[2 * l + 1];
                    const float *ref = reference + ((b * Q + q) * L + l) * R;
                    float sx, sy;
                    offset_scale(ref, R, height, width, P, &sx, &sy);
                    for (long p = 0; p < P; p++, offset += 2) {
                        float x = (ref[0] + offset[0] * sx) * width - 0.5f;
                        float y = (ref[1] + offset[1] * sy) * height - 0.5f;
                        if (!(x > -1 && y > -1 && x < width && y < height)) continue;
                        long x0 = (long)floorf(x), y0 = (long)floorf(y);
                        float fx = x - x0, fy = y - y0;
                        for (int k = 0; k < 4; k++) {
                            long xx = x0 + (k & 1), yy = y0 + (k >> 1);
                            if (xx < 0 || yy < 0 || xx >= width || yy >= height) continue;
                            float share = weights[l * P + p] * ((k & 1) ? fx : 1 - fx) *
                                          ((k >> 1) ? fy : 1 - fy);
                            const float *v = value + ((b * S + start + yy * width + xx) * H + h) * D;
                            for (int d = 0; d < D; d++) sum[d] += share * v[d];
                        }
                    }
                    start += height * width;
                }
                memcpy(out + head * D, sum, sizeof sum);
            }
}

// Gradients of value, offsets and logits, all zero at the start. None for the reference points:
// the model detaches them.
void backward(const float *value, const long *hw, const float *reference, const float *offsets,
              const float *logits, const float *grad_out, float *grad_value, float *grad_offsets,
              float *grad_logits, long B, long S, long H, long Q, long L, long P, long R) {
    // Queries of one head add to the same values: parallel over pictures and heads only.
#pragma omp parallel for collapse(2) schedule(static)
    for (long b = 0; b < B; b++)
        for (long h = 0; h < H; h++)
            for (long q = 0; q < Q; q++) {
                long head = (b * Q + q) * H + h, start = 0;
                const float *offset = offsets + head * L * P * 2, *g = grad_out + head * D;
                float *grad_offset = grad_offsets + head * L * P * 2;
                float weights[MAX_SAMPLES], grad_weights[MAX_SAMPLES];
                softmax(logits + head * L * P, weights, L * P);
                memset(grad_weights, 0, sizeof grad_weights);
                for (long l = 0; l < L; l++) {
                    long height = hw[2 * l], width = hw[2 * l + 1];
                    const float *ref = reference + ((b * Q + q) * L + l) * R;
                    float sx, sy;
                    offset_scale(ref, R, height, width, P, &sx, &sy);
                    for (long p = 0; p < P; p++, offset += 2, grad_offset += 2) {
                        float x = (ref[0] + offset[0] * sx) * width - 0.5f;
                        float y = (ref[1] + offset[1] * sy) * height - 0.5f;
                        if (!(x > -1 && y > -1 && x < width && y < height)) continue;
                        long x0 = (long)floorf(x), y0 = (long)floorf(y);
                        float fx = x - x0, fy = y - y0, by_weight = 0, by_x = 0, by_y = 0;
                        float weight = weights[l * P + p];
                        for (int k = 0; k < 4; k++) {
                            long xx = x0 + (k & 1), yy = y0 + (k >> 1);
                            if (xx < 0 || yy < 0 || xx >= width || yy >= height) continue;
                            float cx = (k & 1) ? fx : 1 - fx, cy = (k >> 1) ? fy : 1 - fy;
                            long at = ((b * S + start + yy * width + xx) * H + h) * D;
                            const float *v = value + at;
                            float *grad_v = grad_value + at, dot = 0, share = weight * cx * cy;
                            for (int d = 0; d < D; d++) {
                                dot += g[d] * v[d];
                                grad_v[d] += share * g[d];
                            }
                            by_weight += cx * cy * dot;
                            by_x += ((k & 1) ? 1 : -1) * cy * dot;
                            by_y += ((k >> 1) ? 1 : -1) * cx * dot;
                        }
                        grad_weights[l * P + p] = by_weight;
                        grad_offset[0] = weight * by_x * width * sx;
                        grad_offset[1] = weight * by_y * height * sy;
                    }
                    start += height * width;
                }
                float mean = 0;
                for (long i = 0; i < L * P; i++) mean += weights[i] * grad_weights[i];
                for (long i = 0; i < L * P; i++)
                    grad_logits[head * L * P + i] = weights[i] * (grad_weights[i] - mean);
            }
}
