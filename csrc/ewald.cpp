#include "ewald.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "waves.h"

namespace equicalc {
namespace {

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
    Reciprocal reciprocal;  // of the sorted cell vectors: the longest last, as the innermost loop
    int extent[3];          // largest |h| of each
};

Lattice make_lattice(const double *cell, double k_max) {
    Lattice lattice;
    double length[3];
    int axis[3] = {0, 1, 2};
    for (int a = 0; a < 3; ++a) {
        length[a] = std::hypot(cell[3 * a], cell[3 * a + 1], cell[3 * a + 2]);
    }
    std::stable_sort(axis, axis + 3, [&](int a, int b) { return length[a] < length[b]; });
    double sorted[9];
    for (int a = 0; a < 3; ++a) {
        std::copy(cell + 3 * axis[a], cell + 3 * axis[a] + 3, sorted + 3 * a);
        lattice.extent[a] = static_cast<int>(std::floor(k_max * length[axis[a]] / (2.0 * kPi)));
    }
    lattice.reciprocal = make_reciprocal(sorted);
    return lattice;
}

void wave_vector(const Lattice &lattice, int h1, int h2, int h3, double *k) {
    for (int x = 0; x < 3; ++x) {
        k[x] = 2.0 * kPi *
               (h1 * lattice.reciprocal.inverse[x][0] + h2 * lattice.reciprocal.inverse[x][1] +
                h3 * lattice.reciprocal.inverse[x][2]);
    }
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
                    sum += lattice.reciprocal.inverse[x][a] * full[a][b] *
                           lattice.reciprocal.inverse[y][b];
                }
            }
            out[3 * x + y] = 4.0 * kPi * kPi * sum;
        }
    }
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
                gradient += 2.0 * kPi * lattice.reciprocal.inverse[x][a] * sums.gradient[a][l];
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

// Sum of weight * |S|^2 over a line, its part of the virial, and from `start` on the coefficients
// of the second pass over the atoms.
double line_energy(const Line &line, const Lattice &lattice, const double *re, const double *im,
                   const CoulombOptions &options, double prefactor, double *virial,
                   std::size_t start, Coefficients &values, Coefficients *slopes) {
    // On the line h1 = h2 = 0 both k and -k are present already.
    const double multiplicity = line.h1 == 0 && line.h2 == 0 ? 1.0 : 2.0;
    double energy = 0.0;
    for (int h = 0; h <= line.extent; ++h) {
        const std::size_t at[2] = {line.offset + h, line.offset - h};
        double value[2][2] = {}, slope[2][2] = {};
        for (int side = 0; side < (h == 0 ? 1 : 2); ++side) {
            double k[3];
            wave_vector(lattice, line.h1, line.h2, side == 0 ? h : -h, k);
            const Weight weight = wave_weight(k[0] * k[0] + k[1] * k[1] + k[2] * k[2], options);
            const double r = re[at[side]], i = -im[at[side]];
            value[side][0] = multiplicity * weight.value * r;
            value[side][1] = multiplicity * weight.value * i;
            slope[side][0] = multiplicity * weight.slope * r;
            slope[side][1] = multiplicity * weight.slope * i;
            energy += value[side][0] * r + value[side][1] * i;
            const double stress = 2.0 * prefactor * (slope[side][0] * r + slope[side][1] * i);
            for (int x = 0; x < 3; ++x) {
                for (int y = 0; y < 3; ++y) {
                    virial[3 * x + y] += stress * k[x] * k[y];
                }
            }
        }
        values.set(start + h, h == 0, value[0][0], value[0][1], value[1][0], value[1][1]);
        if (slopes != nullptr) {
            slopes->set(start + h, h == 0, slope[0][0], slope[0][1], slope[1][0], slope[1][1]);
        }
    }
    return energy;
}

// exp(i k r) of all atoms along the three reciprocal vectors.
std::array<PhaseTable, 3> phase_tables(std::size_t n, std::size_t padded, const double *positions,
                                       const Lattice &lattice, int threads) {
    std::array<PhaseTable, 3> tables;
    std::vector<double> fractional(n);
    for (int a = 0; a < 3; ++a) {
        for (std::size_t i = 0; i < n; ++i) {
            fractional[i] = 0.0;
            for (int x = 0; x < 3; ++x) {
                fractional[i] += positions[3 * i + x] * lattice.reciprocal.inverse[x][a];
            }
        }
        tables[a].fill(n, padded, fractional.data(), lattice.extent[a], threads);
    }
    return tables;
}

}  // namespace

CoulombSum bulk_sum(std::size_t n, const double *charges, const double *positions,
                    const double *cell, const CoulombOptions &options) {
    CoulombSum result = empty_sum(n, options);
    if (n == 0) {
        return result;
    }
    const Lattice lattice = make_lattice(cell, options.taper_outer / options.sigma);
    const std::size_t padded = (n + kLanes - 1) / kLanes * kLanes;
    const int threads = std::max(1, options.threads);

    const auto tables = phase_tables(n, padded, positions, lattice, threads);
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
            structure_factor_line(lines[line], padded, padded_charges.data(), tables.data(),
                                  work.data(), re.data(), im.data());
        }
    }

    // Energy and virial come from the structure factor alone.
    const double prefactor = 2.0 * kPi * kCoulomb / lattice.reciprocal.volume;
    Coefficients values(n_waves), slopes(options.atom_virials ? n_waves : 0);
    std::vector<std::size_t> starts;
    std::size_t start = 0;
    double energy = 0.0;
    for (const Line &line : lines) {
        starts.push_back(start);
        energy +=
            line_energy(line, lattice, re.data(), im.data(), options, prefactor, result.virial,
                        start, values, options.atom_virials ? &slopes : nullptr);
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
        block_sums(lines, starts, first, padded, tables.data(), values,
                   options.atom_virials ? &slopes : nullptr, sums);
        store_block(sums, first, std::min(kLanes, n - first), charges, lattice, prefactor,
                    options.atom_virials, result);
    }
    add_self_and_background(n, charges, lattice.reciprocal.volume, options, result);
    return result;
}

}  // namespace equicalc
