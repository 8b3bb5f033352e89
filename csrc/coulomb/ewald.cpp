#include "coulomb/ewald.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "coulomb/ewald_phases.h"
#include "coulomb/waves.h"

namespace equicalc {
namespace {

// Sums over atoms are carried by this many h3 at once, so that a loaded phase is used more than
// once.
constexpr int kWaves = 2;

using Lane = std::array<double, kLanes>;

// Sums over atoms a c, b s, a s, b c for `Waves` rows of the h3 table. From them come h3 and -h3.
template <int Waves>
inline void line_sums(std::size_t count, std::size_t stride, const double *a, const double *b,
                      const double *c, const double *s, double (*sums)[4]) {
    double ac[Waves][kLanes] = {}, bs[Waves][kLanes] = {};
    double as[Waves][kLanes] = {}, bc[Waves][kLanes] = {};
    for (std::size_t i = 0; i < count; i += kLanes) {
        for (int w = 0; w < Waves; ++w) {
            const double *cw = c + w * stride + i;
            const double *sw = s + w * stride + i;
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

// Sum over the slots [first, first + count) of q exp(i k r), for all waves of one line; re and im
// point at h3 = 0.
EQUICALC_VECTOR
void structure_factor_line(const Line &line, std::size_t first, std::size_t count,
                           const double *charges, const PhaseTable *tables, double *work,
                           double *re, double *im) {
    const std::size_t stride = tables[0].stride;
    const double *c1 = tables[0].re.data() + line.h1 * stride + first;
    const double *s1 = tables[0].im.data() + line.h1 * stride + first;
    const double *c2 = tables[1].re.data() + std::abs(line.h2) * stride + first;
    const double *s2 = tables[1].im.data() + std::abs(line.h2) * stride + first;
    const double sign = line.h2 < 0 ? -1.0 : 1.0;
    double *a = work, *b = work + count;
#pragma omp simd
    for (std::size_t i = 0; i < count; ++i) {
        const double s = sign * s2[i];
        a[i] = charges[first + i] * (c1[i] * c2[i] - s1[i] * s);
        b[i] = charges[first + i] * (s1[i] * c2[i] + c1[i] * s);
    }
    for (int h = 0; h <= line.extent; h += kWaves) {
        double sums[kWaves][4] = {};
        const double *c = tables[2].re.data() + h * stride + first;
        const double *s = tables[2].im.data() + h * stride + first;
        const int rows = std::min(kWaves, line.extent + 1 - h);
        if (rows == kWaves) {
            line_sums<kWaves>(count, stride, a, b, c, s, sums);
        } else {
            line_sums<1>(count, stride, a, b, c, s, sums);
        }
        for (int w = 0; w < rows; ++w) {
            re[h + w] = sums[w][0] - sums[w][1];
            im[h + w] = sums[w][2] + sums[w][3];
            re[-h - w] = sums[w][0] + sums[w][1];
            im[-h - w] = sums[w][3] - sums[w][2];
        }
    }
}

// S(k) = sum_j q_j exp(-sigma_j^2 k^2 / 2) exp(i k r_j) and its derivative with respect to k^2 at
// fixed phases.
struct StructureFactor {
    std::vector<double> re, im, slope_re, slope_im;

    explicit StructureFactor(std::size_t size)
        : re(size, 0.0), im(size, 0.0), slope_re(size, 0.0), slope_im(size, 0.0) {}
};

double damping(double sigma, double k_sq) { return std::exp(-0.5 * sigma * sigma * k_sq); }

StructureFactor structure_factor(const Waves &waves, const WidthGroups &groups, const Slots &slots,
                                 const double *charges, const PhaseTable *tables, int threads) {
    StructureFactor result(waves.size());
    std::vector<double> padded(slots.atom.size(), 0.0);
    for (std::size_t at = 0; at < slots.atom.size(); ++at) {
        padded[at] = slots.atom[at] == Slots::kEmpty ? 0.0 : charges[slots.atom[at]];
    }
    const auto n_lines = static_cast<std::int64_t>(waves.lines.size());
#pragma omp parallel num_threads(threads)
    {
        std::vector<double> work(2 * padded.size()), re, im;
#pragma omp for schedule(dynamic, 4)
        for (std::int64_t n = 0; n < n_lines; ++n) {
            const Line &line = waves.lines[n];
            re.resize(2 * line.extent + 1);
            im.resize(2 * line.extent + 1);
            for (std::size_t g = 0; g < groups.size(); ++g) {
                const std::size_t first = slots.start[g], count = slots.start[g + 1] - first;
                structure_factor_line(line, first, count, padded.data(), tables, work.data(),
                                      re.data() + line.extent, im.data() + line.extent);
                for (int h = -line.extent; h <= line.extent; ++h) {
                    const std::size_t at = line.offset + h;
                    const double damp = damping(groups.sigma[g], waves.k_sq[at]);
                    const double slope = -0.5 * groups.sigma[g] * groups.sigma[g];
                    const double r = damp * re[line.extent + h], i = damp * im[line.extent + h];
                    result.re[at] += r;
                    result.im[at] += i;
                    result.slope_re[at] += slope * r;
                    result.slope_im[at] += slope * i;
                }
            }
        }
    }
    return result;
}

// k and -k; on the line h1 = h2 = 0 both are present already.
double multiplicity(const Line &line) { return line.h1 == 0 && line.h2 == 0 ? 1.0 : 2.0; }

// Energy and virial come from the structure factor alone; `prefactor` is 2 pi k_e / V.
void wave_energy(const Waves &waves, const StructureFactor &factor, double prefactor,
                 CoulombSum &result) {
    for (const Line &line : waves.lines) {
        for (int h = -line.extent; h <= line.extent; ++h) {
            const std::size_t at = line.offset + h;
            const double *k = &waves.k[3 * at], re = factor.re[at], im = factor.im[at];
            const Weight &weight = waves.weights[at];
            const double scale = multiplicity(line) * prefactor, power = re * re + im * im;
            const double inner = re * factor.slope_re[at] + im * factor.slope_im[at];
            result.energy += scale * weight.value * power;
            const double stress = 2.0 * scale * (weight.slope * power + 2.0 * weight.value * inner);
            for (int c = 0; c < 9; ++c) {
                result.virial[c] += stress * k[c / 3] * k[c % 3];
            }
        }
    }
    for (int x = 0; x < 3; ++x) {
        result.virial[4 * x] += result.energy;
    }
}

// Coefficients of the sums over waves for atoms of one width, even and odd parts in h3: of the
// potential m t / k^2 exp(-sigma^2 k^2 / 2) conj(S), or of its slope in k^2, of which the share of
// the other charge counts with that charge. Lines follow each other, each from h3 = 0.
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

// Values at k and -k, [side][re, im].
using Sides = double[2][2];

void fill_coefficients(const Waves &waves, const std::vector<std::size_t> &starts,
                       const StructureFactor &factor, double sigma, int threads,
                       Coefficients &values, Coefficients *slopes) {
    const auto n_lines = static_cast<std::int64_t>(waves.lines.size());
#pragma omp parallel for num_threads(threads) schedule(static)
    for (std::int64_t n = 0; n < n_lines; ++n) {
        const Line &line = waves.lines[n];
        for (int h = 0; h <= line.extent; ++h) {
            Sides v = {}, s = {};
            for (int side = 0; side < (h == 0 ? 1 : 2); ++side) {
                const std::size_t at = line.offset + (side == 0 ? h : -h);
                const double scale = multiplicity(line) * damping(sigma, waves.k_sq[at]);
                const double value = scale * waves.weights[at].value;
                const double slope = scale * waves.weights[at].slope - 0.5 * sigma * sigma * value;
                v[side][0] = value * factor.re[at];
                v[side][1] = -value * factor.im[at];
                s[side][0] = slope * factor.re[at] + value * factor.slope_re[at];
                s[side][1] = -slope * factor.im[at] - value * factor.slope_im[at];
            }
            values.set(starts[n] + h, h == 0, v[0][0], v[0][1], v[1][0], v[1][1]);
            if (slopes != nullptr) {
                slopes->set(starts[n] + h, h == 0, s[0][0], s[0][1], s[1][0], s[1][1]);
            }
        }
    }
}

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
inline void line_phase(const Line &line, std::size_t first, const PhaseTable *tables, Lane &re,
                       Lane &im) {
    const std::size_t stride = tables[0].stride;
    const double *c1 = tables[0].re.data() + line.h1 * stride + first;
    const double *s1 = tables[0].im.data() + line.h1 * stride + first;
    const double *c2 = tables[1].re.data() + std::abs(line.h2) * stride + first;
    const double *s2 = tables[1].im.data() + std::abs(line.h2) * stride + first;
    const double sign = line.h2 < 0 ? -1.0 : 1.0;
#pragma omp simd
    for (std::size_t l = 0; l < kLanes; ++l) {
        re[l] = c1[l] * c2[l] - s1[l] * sign * s2[l];
        im[l] = s1[l] * c2[l] + c1[l] * sign * s2[l];
    }
}

EQUICALC_VECTOR
void block_sums(const std::vector<Line> &lines, const std::vector<std::size_t> &starts,
                std::size_t first, const PhaseTable *tables, const Coefficients &values,
                const Coefficients *slopes, BlockSums &sums) {
    const std::size_t stride = tables[2].stride;
    const double *c3 = tables[2].re.data() + first;
    const double *s3 = tables[2].im.data() + first;
    for (std::size_t n = 0; n < lines.size(); ++n) {
        const Line &line = lines[n];
        Lane er, ei;
        line_phase(line, first, tables, er, ei);
        Lane re[3]{}, im[3]{};
        line_moments<2>(values, starts[n], line.extent, c3, s3, stride, re, im);
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
        line_moments<3>(*slopes, starts[n], line.extent, c3, s3, stride, re2, im2);
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

// Results of one block of slots from its sums over waves; `prefactor` is 2 pi k_e / V.
void store_block(const BlockSums &sums, const std::size_t *atoms, const double *charges,
                 const Lattice &lattice, double prefactor, bool atom_virials, CoulombSum &result) {
    for (std::size_t l = 0; l < kLanes && atoms[l] != Slots::kEmpty; ++l) {
        const std::size_t i = atoms[l];
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

}  // namespace

CoulombSum bulk_sum(const Charges &atoms, const double *cell, const CoulombOptions &options) {
    CoulombSum result = empty_sum(atoms.n, options);
    if (atoms.n == 0) {
        return result;
    }
    const int threads = std::max(1, options.threads);
    WidthGroups groups;
    group_by_width(atoms.n, atoms.sigmas, groups);
    const Slots slots = make_slots(groups);
    const Lattice lattice = make_lattice(cell, options.k_outer);
    const auto tables = phase_tables(slots, atoms.positions, lattice, threads);
    const Waves waves = make_waves(lattice, options);
    const StructureFactor factor =
        structure_factor(waves, groups, slots, atoms.charges, tables.data(), threads);
    const double prefactor = 2.0 * kPi * kCoulomb / lattice.reciprocal.volume;
    wave_energy(waves, factor, prefactor, result);

    std::vector<std::size_t> starts;
    std::size_t size = 0;
    for (const Line &line : waves.lines) {
        starts.push_back(size);
        size += line.extent + 1;
    }
    Coefficients values(size), slopes(options.atom_virials ? size : 0);
    Coefficients *maybe_slopes = options.atom_virials ? &slopes : nullptr;
    for (std::size_t g = 0; g < groups.size(); ++g) {
        fill_coefficients(waves, starts, factor, groups.sigma[g], threads, values, maybe_slopes);
        const auto begin = static_cast<std::int64_t>(slots.start[g] / kLanes);
        const auto end = static_cast<std::int64_t>(slots.start[g + 1] / kLanes);
#pragma omp parallel for num_threads(threads) schedule(static)
        for (std::int64_t block = begin; block < end; ++block) {
            BlockSums sums;
            block_sums(waves.lines, starts, block * kLanes, tables.data(), values, maybe_slopes,
                       sums);
            store_block(sums, &slots.atom[block * kLanes], atoms.charges, lattice, prefactor,
                        options.atom_virials, result);
        }
    }
    add_self_and_background(atoms.n, atoms.charges, atoms.sigmas, lattice.reciprocal.volume,
                            options, result);
    return result;
}

}  // namespace equicalc
