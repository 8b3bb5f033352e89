// Prints the GFLOP/s of one core on chains of fused multiply-adds in registers, float32 then
// float64: the roof under which kernels are measured. Compile with -O3 -march=native.
#include <chrono>
#include <cstdio>

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif

template <typename T>
double peak() {
    typedef T Vector __attribute__((vector_size(kBytes)));
    const Vector scale = Vector{} + T(0.999), shift = Vector{} + T(1e-3);
    // twelve chains hide the latency of the units; different values, or they would be one chain
    Vector a = scale, b = a + 1, c = a + 2, d = a + 3, e = a + 4, f = a + 5;
    Vector g = a + 6, h = a + 7, i = a + 8, j = a + 9, k = a + 10, l = a + 11;
    double best = 0;
    for (int repeat = 0; repeat < 5; ++repeat) {
        const long n = 10'000'000;
        const auto begin = std::chrono::steady_clock::now();
        for (long step = 0; step < n; ++step) {
            a = a * scale + shift, b = b * scale + shift, c = c * scale + shift;
            d = d * scale + shift, e = e * scale + shift, f = f * scale + shift;
            g = g * scale + shift, h = h * scale + shift, i = i * scale + shift;
            j = j * scale + shift, k = k * scale + shift, l = l * scale + shift;
        }
        const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
        const double rate = n * 12.0 * 2.0 * (kBytes / sizeof(T)) / time.count() * 1e-9;
        best = rate > best ? rate : best;
    }
    const Vector sum = a + b + c + d + e + f + g + h + i + j + k + l;
    return sum[0] > 0 ? best : 0;
}

int main() {
    std::printf("%.1f %.1f\n", peak<float>(), peak<double>());
    return 0;
}
