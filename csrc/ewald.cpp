#include "ewald.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
// The package is built for any x86-64; the loader picks the widest version this machine has.
#define EQUICALC_VECTOR \
    __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
#else
#define EQUICALC_VECTOR
#endif

namespace equicalc {
namespace {

constexpr double kCoulomb = 14.399645478425668;  // eV A / e^2, as equicalc.electrostatics
constexpr double kPi = 3.14159265358979323846;

// Atoms are handled in blocks of this many (padded with zero charges): one or two vector registers.
constexpr std::size_t kLanes = 8;
// Sums over atoms are carried by this many h3 at once, so that a loaded phase is used more than
// once.
constexpr int kWaves = 2;

using Lane = std::array<double, kLanes>;

// exp(2 pi i h s) for h = 0..extent, stored [h][atom] with separate real and imaginary part.
struct PhaseTable {
    std::size_t stride = 0;
    std::vector<double> re, im;

    void fill(std::size_t n, std::size_t padded, const double *fractional, int extent,
              int threads) {
        stride = padded;
        re.assign(padded * (extent + 1), 0.0);
        im.assign(padded * (extent + 1), 0.0);
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int h = 0; h <= extent; ++h) {
            for (std::size_t i = 0; i < n; ++i) {
                // Whole turns are taken off before the product with 2 pi: full precision far out.
                const double turns = h * fractional[i];
                const double angle = 2.0 * kPi * (turns - std::nearbyint(turns));
                re[h * stride + i] = std::cos(angle);
                im[h * stride + i] = std::sin(angle);
            }
        }
    }
};

// The waves which share h1 and h2 form a line; S(k) and weights are stored for h3 =
// -extent..extent.
struct Line {
    int h1, h2;
    int extent;          // largest |h3| with a weight
    std::size_t offset;  // of h3 = 0 in the arrays over waves
};

struct Lattice {
    double inverse[3][3];  // columns are reciprocal vectors without 2 pi: s = r . inverse
    double volume;
    int extent[3];
    int axis[3];  // order of the cell vectors: the longest last, as the innermost loop
};

double determinant(const double *a) {
    return a[0] * (a[4] * a[8] - a[5] * a[7]) - a[1] * (a[3] * a[8] - a[5] * a[6]) +
           a[2] * (a[3] * a[7] - a[4] * a[6]);
}

Lattice make_lattice(const double *cell, double k_max) {
    Lattice lattice;
    double length[3];
    for (int a = 0; a < 3; ++a) {
        length[a] = std::hypot(cell[3 * a], cell[3 * a + 1], cell[3 * a + 2]);
        lattice.axis[a] = a;
    }
    std::stable_sort(lattice.axis, lattice.axis + 3,
                     [&](int a, int b) { return length[a] < length[b]; });
    double sorted[9];
    for (int a = 0; a < 3; ++a) {
        const int source = lattice.axis[a];
        std::copy(cell + 3 * source, cell + 3 * source + 3, sorted + 3 * a);
        lattice.extent[a] = static_cast<int>(std::floor(k_max * length[source] / (2.0 * kPi)));
    }
    const double det = determinant(sorted);
    lattice.volume = std::abs(det);
    for (int a = 0; a < 3; ++a) {
        const double *b = sorted + 3 * ((a + 1) % 3);
        const double *c = sorted + 3 * ((a + 2) % 3);
        for (int x = 0; x < 3; ++x) {
            const int y = (x + 1) % 3, z = (x + 2) % 3;
            lattice.inverse[x][a] = (b[y] * c[z] - b[z] * c[y]) / det;
        }
    }
    return lattice;
}

void wave_vector(const Lattice &lattice, int h1, int h2, int h3, double *k) {
    for (int x = 0; x < 3; ++x) {
        k[x] =
            2.0 * kPi *
            (h1 * lattice.inverse[x][0] + h2 * lattice.inverse[x][1] + h3 * lattice.inverse[x][2]);
    }
}

// Weight exp(-sigma^2 k^2) t(k) / k^2 of a wave and its derivative with respect to k^2.
struct Weight {
    double value = 0.0, slope = 0.0;
};

Weight wave_weight(double k_sq, const CoulombOptions &options) {
    const double sigma_sq = options.sigma * options.sigma;
    const double x = sigma_sq * k_sq;
    const double inner = options.taper_inner * options.taper_inner;
    const double outer = options.taper_outer * options.taper_outer;
    if (x >= outer || k_sq == 0.0) {
        return {};
    }
    double taper = 1.0, taper_slope = 0.0;
    if (x > inner) {
        // Quintic step in k^2: two continuous derivatives at both ends.
        const double u = (x - inner) / (outer - inner);
        taper = 1.0 - u * u * u * (10.0 - 15.0 * u + 6.0 * u * u);
        taper_slope = -30.0 * u * u * (1.0 - u) * (1.0 - u) / (outer - inner);
    }
    const double gauss = sigma_sq * std::exp(-x) / x;
    return {gauss * taper, gauss * sigma_sq * (taper_slope - taper - taper / x)};
}

// Lines of the half space: of k and -k only one is summed, with twice the weight. In the plane h1 =
// 0 this keeps h2 > 0, and on the line h1 = h2 = 0 both signs of h3, each once.
std::vector<Line> make_lines(const Lattice &lattice, const CoulombOptions &options,
                             std::size_t &n_waves) {
    std::vector<Line> lines;
    n_waves = 0;
    const double k_max = options.taper_outer / options.sigma;
    for (int h1 = 0; h1 <= lattice.extent[0]; ++h1) {
        for (int h2 = h1 == 0 ? 0 : -lattice.extent[1]; h2 <= lattice.extent[1]; ++h2) {
            int extent = -1;
            for (int h3 = lattice.extent[2]; h3 >= 0 && extent < 0; --h3) {
                for (int sign : {-1, 1}) {
                    double k[3];
                    wave_vector(lattice, h1, h2, sign * h3, k);
                    if (k[0] * k[0] + k[1] * k[1] + k[2] * k[2] < k_max * k_max) {
                        extent = h3;
                    }
                }
            }
            if (extent >= 0) {
                lines.push_back({h1, h2, extent, n_waves + extent});
                n_waves += 2 * extent + 1;
            }
        }
    }
    return lines;
}

// Sums over atoms a c, b s, a s, b c for `Waves` rows of the h3 table. From them come h3 and -h3.
template <int Waves>
inline void line_sums(std::size_t padded, const double *a, const double *b, const double *c,
                      const double *s, double (*sums)[4]) {
    double ac[Waves][kLanes] = {}, bs[Waves][kLanes] = {};
    double as[Waves][kLanes] = {}, bc[Waves][kLanes] = {};
    for (std::size_t i = 0; i < padded; i += kLanes) {
        for (int w = 0; w < Waves; ++w) {
            const double *cw = c + w * padded + i;
            const double *sw = s + w * padded + i;
#pragma omp simd
            for (std::size_t l = 0; l < kLanes; ++l) {
                ac[w][l] += a[i + l] * cw[l];
                bs[w][l] += b[i + l] * sw[l];
                as[w][l] += a[i + l] * sw[l];
                bc[w][l] += b[i + l] * cw[l];
            }
        }
    }
    for (int w = 0; w < Waves; ++w) {
        for (std::size_t l = 0; l < kLanes; ++l) {
            sums[w][0] += ac[w][l];
            sums[w][1] += bs[w][l];
            sums[w][2] += as[w][l];
            sums[w][3] += bc[w][l];
        }
    }
}

// Structure factor sum_j q_j exp(i k r_j) of all waves of one line.
EQUICALC_VECTOR
void structure_factor_line(const Line &line, std::size_t padded, const double *charges,
                           const PhaseTable *tables, double *work, double *re, double *im) {
    const double *c1 = tables[0].re.data() + line.h1 * padded;
    const double *s1 = tables[0].im.data() + line.h1 * padded;
    const double *c2 = tables[1].re.data() + std::abs(line.h2) * padded;
    const double *s2 = tables[1].im.data() + std::abs(line.h2) * padded;
    const double sign = line.h2 < 0 ? -1.0 : 1.0;
    double *a = work, *b = work + padded;
#pragma omp simd
    for (std::size_t i = 0; i < padded; ++i) {
        const double s = sign * s2[i];
        a[i] = charges[i] * (c1[i] * c2[i] - s1[i] * s);
        b[i] = charges[i] * (s1[i] * c2[i] + c1[i] * s);
    }
    for (int h = 0; h <= line.extent; h += kWaves) {
        double sums[kWaves][4] = {};
        const double *c = tables[2].re.data() + h * padded;
        const double *s = tables[2].im.data() + h * padded;
        const int count = std::min(kWaves, line.extent + 1 - h);
        if (count == kWaves) {
            line_sums<kWaves>(padded, a, b, c, s, sums);
        } else {
            line_sums<1>(padded, a, b, c, s, sums);
        }
        for (int w = 0; w < count; ++w) {
            const std::size_t plus = line.offset + h + w, minus = line.offset - h - w;
            re[plus] = sums[w][0] - sums[w][1];
            im[plus] = sums[w][2] + sums[w][3];
            re[minus] = sums[w][0] + sums[w][1];
            im[minus] = sums[w][3] - sums[w][2];
        }
    }
}

// Coefficients of a line for the sums over waves: even and odd parts in h3 of m w(k) conj(S(k)).
struct Coefficients {
    std::vector<double> even_re, even_im, odd_re, odd_im;

    explicit Coefficients(std::size_t size)
        : even_re(size), even_im(size), odd_re(size), odd_im(size) {}

    void set(std::size_t at, bool zero, double pr, double pi, double mr, double mi) {
        even_re[at] = zero ? pr : pr + mr;
        even_im[at] = zero ? pi : pi + mi;
        odd_re[at] = zero ? 0.0 : pr - mr;
        odd_im[at] = zero ? 0.0 : pi - mi;
    }
};

// Per block of atoms: sum over waves of coefficient * exp(i k r) and of its moments in h.
struct BlockSums {
    Lane value{};        // Re sum C e
    Lane gradient[3]{};  // Im sum C h_a e
    Lane second[6]{};    // Re sum C' h_a h_b e (11, 22, 33, 23, 13, 12)
};

// Moments 0, 1, 2 in h3 of C exp(i h3 s3) over one line; coefficients start at h3 = 0.
template <int Moments>
inline void line_moments(const Coefficients &k, std::size_t at, int extent, const double *c,
                         const double *s, std::size_t stride, Lane *re, Lane *im) {
    for (int h = 0; h <= extent; ++h) {
        const double er = k.even_re[at + h], ei = k.even_im[at + h];
        const double dr = k.odd_re[at + h], di = k.odd_im[at + h];
        const double *ch = c + h * stride;
        const double *sh = s + h * stride;
        const double h1 = h, h2 = h1 * h1;
#pragma omp simd
        for (std::size_t l = 0; l < kLanes; ++l) {
            // C(h) e(h) + C(-h) e(-h) = even cos + i odd sin, and with a factor h: odd cos + i even
            // sin.
            const double r = er * ch[l] - di * sh[l], i = ei * ch[l] + dr * sh[l];
            re[0][l] += r;
            im[0][l] += i;
            re[1][l] += h1 * (dr * ch[l] - ei * sh[l]);
            im[1][l] += h1 * (di * ch[l] + er * sh[l]);
            if (Moments == 3) {
                re[2][l] += h2 * r;
                im[2][l] += h2 * i;
            }
        }
    }
}

// exp(i (h1 s1 + h2 s2)) of a block of atoms.
inline void line_phase(const Line &line, std::size_t first, std::size_t padded,
                       const PhaseTable *tables, Lane &re, Lane &im) {
    const double *c1 = tables[0].re.data() + line.h1 * padded + first;
    const double *s1 = tables[0].im.data() + line.h1 * padded + first;
    const double *c2 = tables[1].re.data() + std::abs(line.h2) * padded + first;
    const double *s2 = tables[1].im.data() + std::abs(line.h2) * padded + first;
    const double sign = line.h2 < 0 ? -1.0 : 1.0;
#pragma omp simd
    for (std::size_t l = 0; l < kLanes; ++l) {
        re[l] = c1[l] * c2[l] - s1[l] * sign * s2[l];
        im[l] = s1[l] * c2[l] + c1[l] * sign * s2[l];
    }
}

EQUICALC_VECTOR
void block_sums(const std::vector<Line> &lines, const std::vector<std::size_t> &starts,
                std::size_t first, std::size_t padded, const PhaseTable *tables,
                const Coefficients &values, const Coefficients *slopes, BlockSums &sums) {
    const double *c3 = tables[2].re.data() + first;
    const double *s3 = tables[2].im.data() + first;
    for (std::size_t n = 0; n < lines.size(); ++n) {
        const Line &line = lines[n];
        Lane er, ei;
        line_phase(line, first, padded, tables, er, ei);
        Lane re[3]{}, im[3]{};
        line_moments<2>(values, starts[n], line.extent, c3, s3, padded, re, im);
#pragma omp simd
        for (std::size_t l = 0; l < kLanes; ++l) {
            const double turned = er[l] * im[0][l] + ei[l] * re[0][l];
            sums.value[l] += er[l] * re[0][l] - ei[l] * im[0][l];
            sums.gradient[0][l] += line.h1 * turned;
            sums.gradient[1][l] += line.h2 * turned;
            sums.gradient[2][l] += er[l] * im[1][l] + ei[l] * re[1][l];
        }
        if (slopes == nullptr) {
            continue;
        }
        Lane re2[3]{}, im2[3]{};
        line_moments<3>(*slopes, starts[n], line.extent, c3, s3, padded, re2, im2);
        const double h1 = line.h1, h2 = line.h2;
#pragma omp simd
        for (std::size_t l = 0; l < kLanes; ++l) {
            const double m0 = er[l] * re2[0][l] - ei[l] * im2[0][l];
            const double m1 = er[l] * re2[1][l] - ei[l] * im2[1][l];
            sums.second[0][l] += h1 * h1 * m0;
            sums.second[1][l] += h2 * h2 * m0;
            sums.second[2][l] += er[l] * re2[2][l] - ei[l] * im2[2][l];
            sums.second[3][l] += h2 * m1;
            sums.second[4][l] += h1 * m1;
            sums.second[5][l] += h1 * h2 * m0;
        }
    }
}

// B h h^T B^T: a symmetric matrix in the basis of reciprocal vectors made Cartesian.
void to_cartesian(const Lattice &lattice, const double *h, double *out) {
    const double full[3][3] = {{h[0], h[5], h[4]}, {h[5], h[1], h[3]}, {h[4], h[3], h[2]}};
    for (int x = 0; x < 3; ++x) {
        for (int y = 0; y < 3; ++y) {
            double sum = 0.0;
            for (int a = 0; a < 3; ++a) {
                for (int b = 0; b < 3; ++b) {
                    sum += lattice.inverse[x][a] * full[a][b] * lattice.inverse[y][b];
                }
            }
            out[3 * x + y] = 4.0 * kPi * kPi * sum;
        }
    }
}

// Self energy and background; the background alone depends on the volume.
void add_self_and_background(std::size_t n, const double *charges, double volume,
                             const CoulombOptions &options, CoulombSum &result) {
    double total = 0.0, squares = 0.0;
    for (std::size_t i = 0; i < n; ++i) {
        total += charges[i];
        squares += charges[i] * charges[i];
    }
    const double self = -kCoulomb / (2.0 * options.sigma * std::sqrt(kPi));
    const double background = -2.0 * kPi * options.sigma * options.sigma * kCoulomb / volume;
    result.energy += self * squares + background * total * total;
    for (std::size_t i = 0; i < n; ++i) {
        result.potentials[i] += 2.0 * (self * charges[i] + background * total);
    }
    for (int x = 0; x < 3; ++x) {
        result.virial[4 * x] += background * total * total;
        if (options.atom_virials) {
            for (std::size_t i = 0; i < n; ++i) {
                result.atom_virials[9 * i + 4 * x] += background * total * charges[i];
            }
        }
    }
}

CoulombSum empty_result(std::size_t n, const CoulombOptions &options) {
    CoulombSum result;
    result.potentials.assign(n, 0.0);
    result.forces.assign(3 * n, 0.0);
    if (options.atom_virials) {
        result.atom_virials.assign(9 * n, 0.0);
    }
    return result;
}

// Results of one block of atoms from its sums over waves; `prefactor` is 2 pi k_e / V.
void store_block(const BlockSums &sums, std::size_t first, std::size_t count, const double *charges,
                 const Lattice &lattice, double prefactor, bool atom_virials, CoulombSum &result) {
    for (std::size_t l = 0; l < count; ++l) {
        const std::size_t i = first + l;
        result.potentials[i] = 2.0 * prefactor * sums.value[l];
        for (int x = 0; x < 3; ++x) {
            double gradient = 0.0;
            for (int a = 0; a < 3; ++a) {
                gradient += 2.0 * kPi * lattice.inverse[x][a] * sums.gradient[a][l];
            }
            result.forces[3 * i + x] = 2.0 * prefactor * charges[i] * gradient;
        }
        if (!atom_virials) {
            continue;
        }
        double second[6], *virial = &result.atom_virials[9 * i];
        for (int c = 0; c < 6; ++c) {
            second[c] = 2.0 * prefactor * charges[i] * sums.second[c][l];
        }
        to_cartesian(lattice, second, virial);
        for (int x = 0; x < 3; ++x) {
            virial[4 * x] += prefactor * charges[i] * sums.value[l];
        }
    }
}

}  // namespace

CoulombSum bulk_sum(std::size_t n, const double *charges, const double *positions,
                    const double *cell, const CoulombOptions &options) {
    CoulombSum result = empty_result(n, options);
    if (n == 0) {
        return result;
    }
    const Lattice lattice = make_lattice(cell, options.taper_outer / options.sigma);
    const std::size_t padded = (n + kLanes - 1) / kLanes * kLanes;
    const int threads = std::max(1, options.threads);

    PhaseTable tables[3];
    for (int a = 0; a < 3; ++a) {
        std::vector<double> fractional(n);
        for (std::size_t i = 0; i < n; ++i) {
            const double *r = positions + 3 * i;
            fractional[i] = r[0] * lattice.inverse[0][a] + r[1] * lattice.inverse[1][a] +
                            r[2] * lattice.inverse[2][a];
        }
        tables[a].fill(n, padded, fractional.data(), lattice.extent[a], threads);
    }
    std::vector<double> padded_charges(padded, 0.0);
    std::copy(charges, charges + n, padded_charges.begin());

    std::size_t n_waves = 0;
    const std::vector<Line> lines = make_lines(lattice, options, n_waves);
    const auto n_lines = static_cast<std::int64_t>(lines.size());
    std::vector<double> re(n_waves), im(n_waves);
#pragma omp parallel num_threads(threads)
    {
        std::vector<double> work(2 * padded);
#pragma omp for schedule(dynamic, 4)
        for (std::int64_t line = 0; line < n_lines; ++line) {
            structure_factor_line(lines[line], padded, padded_charges.data(), tables, work.data(),
                                  re.data(), im.data());
        }
    }

    // Energy and virial come from the structure factor alone, and so do the coefficients of the
    // second pass over the atoms.
    const double prefactor = 2.0 * kPi * kCoulomb / lattice.volume;
    Coefficients values(n_waves), slopes(options.atom_virials ? n_waves : 0);
    std::vector<std::size_t> starts(lines.size());
    std::size_t start = 0;
    double energy = 0.0;
    for (std::size_t n_line = 0; n_line < lines.size(); ++n_line) {
        const Line &line = lines[n_line];
        // On the line h1 = h2 = 0 both k and -k are present already.
        const double multiplicity = line.h1 == 0 && line.h2 == 0 ? 1.0 : 2.0;
        starts[n_line] = start;
        for (int h = 0; h <= line.extent; ++h) {
            Weight weights[2];
            const std::size_t at[2] = {line.offset + h, line.offset - h};
            for (int side = 0; side < (h == 0 ? 1 : 2); ++side) {
                double k[3];
                wave_vector(lattice, line.h1, line.h2, side == 0 ? h : -h, k);
                Weight w = wave_weight(k[0] * k[0] + k[1] * k[1] + k[2] * k[2], options);
                w.value *= multiplicity;
                w.slope *= multiplicity;
                weights[side] = w;
                const double power = re[at[side]] * re[at[side]] + im[at[side]] * im[at[side]];
                energy += w.value * power;
                for (int x = 0; x < 3; ++x) {
                    for (int y = 0; y < 3; ++y) {
                        result.virial[3 * x + y] += 2.0 * prefactor * w.slope * power * k[x] * k[y];
                    }
                }
            }
            const double pr = re[at[0]], pi = -im[at[0]], mr = re[at[1]], mi = -im[at[1]];
            values.set(start + h, h == 0, weights[0].value * pr, weights[0].value * pi,
                       weights[1].value * mr, weights[1].value * mi);
            if (options.atom_virials) {
                slopes.set(start + h, h == 0, weights[0].slope * pr, weights[0].slope * pi,
                           weights[1].slope * mr, weights[1].slope * mi);
            }
        }
        start += line.extent + 1;
    }
    result.energy = prefactor * energy;
    for (int x = 0; x < 3; ++x) {
        result.virial[4 * x] += result.energy;
    }

    const auto n_blocks = static_cast<std::int64_t>(padded / kLanes);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (std::int64_t block = 0; block < n_blocks; ++block) {
        const std::size_t first = block * kLanes;
        BlockSums sums;
        block_sums(lines, starts, first, padded, tables, values,
                   options.atom_virials ? &slopes : nullptr, sums);
        store_block(sums, first, std::min(kLanes, n - first), charges, lattice, prefactor,
                    options.atom_virials, result);
    }
    add_self_and_background(n, charges, lattice.volume, options, result);
    return result;
}

CoulombSum open_sum(std::size_t n, const double *charges, const double *positions,
                    const CoulombOptions &options) {
    CoulombSum result = empty_result(n, options);
    const double gamma = 0.5 / options.sigma;
    const auto count = static_cast<std::int64_t>(n);
    std::vector<double> virials(9 * n, 0.0);
#pragma omp parallel for num_threads(std::max(1, options.threads)) schedule(static)
    for (std::int64_t i = 0; i < count; ++i) {
        double potential = 0.0, force[3] = {}, *virial = &virials[9 * i];
        for (std::int64_t j = 0; j < count; ++j) {
            if (j == i) {
                continue;
            }
            double d[3];
            for (int x = 0; x < 3; ++x) {
                d[x] = positions[3 * i + x] - positions[3 * j + x];
            }
            const double x = gamma * std::hypot(d[0], d[1], d[2]);
            // f = erf(x) / x and g = -f'(x) / x; both by their power series where they would
            // cancel.
            double f = 0.0, g = 0.0;
            if (x < 0.5) {
                double term = 2.0 / std::sqrt(kPi);
                for (int m = 0; m < 13; ++m) {
                    f += term / (2 * m + 1);
                    term *= -x * x / (m + 1);
                    // Derivative of the next term of f, divided by -x.
                    g += term == 0.0 ? 0.0 : -term * (2 * m + 2) / ((2 * m + 3) * x * x);
                }
                if (x == 0.0) {
                    g = 4.0 / (3.0 * std::sqrt(kPi));
                }
            } else {
                f = std::erf(x) / x;
                g = (f - 2.0 / std::sqrt(kPi) * std::exp(-x * x)) / (x * x);
            }
            potential += charges[j] * f;
            for (int a = 0; a < 3; ++a) {
                const double pull = charges[j] * g * d[a];
                force[a] += pull;
                for (int b = 0; b < 3; ++b) {
                    virial[3 * a + b] += 0.5 * pull * d[b];
                }
            }
        }
        const double scale = kCoulomb * gamma;
        result.potentials[i] = scale * potential;
        for (int a = 0; a < 3; ++a) {
            result.forces[3 * i + a] = scale * gamma * gamma * charges[i] * force[a];
        }
        for (int c = 0; c < 9; ++c) {
            virial[c] *= scale * gamma * gamma * charges[i];
        }
    }
    for (std::size_t i = 0; i < n; ++i) {
        result.energy += 0.5 * charges[i] * result.potentials[i];
        for (int c = 0; c < 9; ++c) {
            result.virial[c] += virials[9 * i + c];
        }
    }
    if (options.atom_virials) {
        result.atom_virials = std::move(virials);
    }
    return result;
}

}  // namespace equicalc
