#include "coulomb/mesh_solver.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>

#include "coulomb/device_mesh.h"
#include "coulomb/mesh.h"
#include "coulomb/mesh_filter.h"
#include "coulomb/mesh_transforms.h"
#include "coulomb/waves.h"

namespace equicalc {
namespace {

using torch::Tensor;

// First of the `n` planes or rows of a rank.
int first_of(int rank, int ranks, int n) {
    return static_cast<int>(static_cast<int64_t>(n) * rank / ranks);
}

// Planes are those of one rank, [planes][n1][n2] and, as spectrum along the last two directions,
// [planes][n1][n2 / 2 + 1]. For the transform along the first direction ranks exchange parts of
// them, so that each has some rows of all planes, [n0][rows][n2 / 2 + 1]. One rank has all rows in
// its planes.
template <class Real>
class HostMesh : public MeshSolver {
  public:
    HostMesh(const MeshOptions &options, MeshRanks &ranks)
        : options_(options),
          ranks_(ranks),
          share_(share_of(ranks.rank())),
          sums_{mesh_options(options)},
          transforms_(options.points, n_planes(share_), n_rows(share_)) {
        const auto [nx, ny, nz] = options.points;
        const int planes = n_planes(share_), rows = n_rows(share_), half = nz / 2 + 1;
        const auto count = [](int a, int b, int c) { return static_cast<std::size_t>(a) * b * c; };
        density_.resize(count(planes, ny, nz));
        spectrum_.resize(count(nx, rows, half));
        if (ranks.size() > 1) {
            own_parts_.resize(count(planes, ny, half));
            packed_.resize(own_parts_.size());
            for (int rank = 0; rank < ranks.size(); ++rank) {
                const MeshShare other = share_of(rank);
                of_planes_.push_back(2 * planes * n_rows(other) * half);
                of_rows_.push_back(2 * n_planes(other) * rows * half);
            }
        }
    }

    const CoulombSum &solve(const double *cell, const MeshCharges &atoms) override {
        ranks_.run([&] {
            set_cell(cell);
            mesh_->set_charges({atoms.n, atoms.charges, atoms.positions, nullptr});
            mesh_->spread(density_.data());
            transform_planes();
        });
        exchange(packed_, of_planes_, spectrum_, of_rows_);
        ranks_.run([&] {
            transforms_.rows_forward(spectrum_.data());
            if (atoms.atom_virials || atoms.source_moments) {
                kept_ = spectrum_;
            }
            mesh_->begin_convolve(spectrum_.data());
            transforms_.rows_backward(spectrum_.data());
        });
        ranks_.sum(mesh_->sums());
        exchange(spectrum_, of_rows_, packed_, of_planes_);
        ranks_.run([&] {
            mesh_->end_convolve();
            transform_planes_back();
            found_.resize(4 * atoms.n);
            mesh_->begin_gather(density_.data(), found_.data());
        });
        ranks_.sum_for_owners(found_, 4);
        ranks_.run([&] {
            mesh_->end_gather(owned(atoms, 4), atoms.first, atoms.last, result_);
            result_.atom_virials.clear();
            result_.source_moments.clear();
        });
        if (atoms.atom_virials) {
            add_atom_virials(atoms);
        }
        if (atoms.source_moments) {
            add_source_moments(atoms);
        }
        return result_;
    }

    std::size_t memory_bytes() const override {
        // the filter has as much as the spectrum
        return bytes(density_) + 2 * bytes(spectrum_) + bytes(kept_) + bytes(own_parts_) +
               bytes(packed_) + bytes(found_) + (mesh_ ? mesh_->memory_bytes() : 0);
    }

  private:
    using Spectrum = std::vector<std::complex<Real>>;

    template <class Number>
    static std::size_t bytes(const std::vector<Number> &numbers) {
        return sizeof(Number) * numbers.capacity();
    }
    static int n_planes(const MeshShare &share) { return share.planes[1] - share.planes[0]; }
    static int n_rows(const MeshShare &share) { return share.rows[1] - share.rows[0]; }

    MeshShare share_of(int rank) const {
        const int ranks = ranks_.size(), nx = options_.points[0], ny = options_.points[1];
        return {{first_of(rank, ranks, nx), first_of(rank + 1, ranks, nx)},
                {first_of(rank, ranks, ny), first_of(rank + 1, ranks, ny)}};
    }

    // Sums over ranks of what was found, of the atoms that are asked for.
    const double *owned(const MeshCharges &atoms, int width) const {
        return found_.data() + (ranks_.size() > 1 ? 0 : width * atoms.first);
    }

    // Spectra of the planes of this rank; alone it has all rows in its planes.
    Spectrum &parts() { return ranks_.size() > 1 ? own_parts_ : spectrum_; }

    void transform_planes() {
        transforms_.planes_forward(density_.data(), parts().data());
        copy_parts(
            [](auto *part, auto *packed, std::size_t n) { std::copy(part, part + n, packed); });
    }
    void transform_planes_back() {
        copy_parts(
            [](auto *part, auto *packed, std::size_t n) { std::copy(packed, packed + n, part); });
        transforms_.planes_backward(parts().data(), density_.data());
    }

    // Calls copy(part, packed, n) for n numbers of each plane that belong to one rank: in
    // `packed_` those of a rank follow each other.
    template <class Copy>
    void copy_parts(const Copy &copy) {
        if (ranks_.size() == 1) {
            return;
        }
        const int ny = options_.points[1], half = options_.points[2] / 2 + 1;
        std::complex<Real> *packed = packed_.data();
        for (int rank = 0; rank < ranks_.size(); ++rank) {
            const MeshShare other = share_of(rank);
            const std::size_t n = static_cast<std::size_t>(n_rows(other)) * half;
            for (int x = 0; x < n_planes(share_); ++x, packed += n) {
                const std::size_t row = static_cast<std::size_t>(x) * ny + other.rows[0];
                copy(own_parts_.data() + row * half, packed, n);
            }
        }
    }

    void exchange(const Spectrum &send, const std::vector<int> &n_sent, Spectrum &receive,
                  const std::vector<int> &n_received) {
        if (ranks_.size() > 1) {
            ranks_.exchange(send.data(), n_sent, receive.data(), n_received, options_.single);
        }
    }

    void add_atom_virials(const MeshCharges &atoms) {
        for (std::size_t axes = 0; axes < kVirialAxes.size(); ++axes) {
            const auto [a, b] = kVirialAxes[axes];
            find_column(atoms, axes, 6,
                        [&] { mesh_->stress_spectrum(kept_.data(), a, b, spectrum_.data()); });
        }
        ranks_.sum_for_owners(found_, 6);
        ranks_.run([&] { mesh_->end_virials(owned(atoms, 6), atoms.first, atoms.last, result_); });
    }

    void add_source_moments(const MeshCharges &atoms) {
        for (int axis = 0; axis < 3; ++axis) {
            find_column(atoms, axis, 3, [&] {
                mesh_->source_moment_spectrum(kept_.data(), axis, spectrum_.data());
            });
        }
        ranks_.sum_for_owners(found_, 3);
        ranks_.run(
            [&] { mesh_->end_source_moments(owned(atoms, 3), atoms.first, atoms.last, result_); });
    }

    // From one more spectrum, which fill() makes of that of the charges, a column of what is found.
    template <class Fill>
    void find_column(const MeshCharges &atoms, std::size_t column, std::size_t width,
                     const Fill &fill) {
        ranks_.run([&] {
            fill();
            transforms_.rows_backward(spectrum_.data());
        });
        exchange(spectrum_, of_rows_, packed_, of_planes_);
        ranks_.run([&] {
            transform_planes_back();
            found_.resize(width * atoms.n);
            mesh_->gather_column(density_.data(), column, width, found_.data());
        });
    }

    static CoulombOptions mesh_options(const MeshOptions &options) {
        const auto [inner, outer] = taper_range(mesh_wave_accuracy(options.accuracy));
        return {inner / options.sigma, outer / options.sigma, false, options.threads};
    }

    void set_cell(const double *cell) {
        if (mesh_ != nullptr && std::equal(cell, cell + 9, cell_.begin())) {
            return;
        }
        if (mesh_ == nullptr) {
            mesh_ = std::make_unique<CoulombMesh<Real>>(
                cell, options_.points.data(), options_.order, std::vector<double>{options_.sigma},
                sums_, share_);
        } else {
            mesh_->set_cell(cell);
        }
        std::copy(cell, cell + 9, cell_.begin());
    }

    MeshOptions options_;
    MeshRanks &ranks_;
    MeshShare share_;
    CoulombOptions sums_;
    std::unique_ptr<CoulombMesh<Real>> mesh_;
    MeshTransforms<Real> transforms_;
    std::array<double, 9> cell_{};
    std::vector<Real> density_;             // planes
    Spectrum own_parts_, packed_;           // planes, on several ranks
    Spectrum spectrum_;                     // rows
    Spectrum kept_;                         // likewise, of the charges, for virials of atoms
    std::vector<int> of_planes_, of_rows_;  // numbers that belong to each rank in one's own part
    std::vector<double> found_;
    CoulombSum result_;
};

// Formulas are those of mesh.h.
class DeviceMesh : public MeshSolver {
  public:
    DeviceMesh(const MeshOptions &options, MeshRanks &ranks)
        : options_(options),
          ranks_(ranks),
          points_{options.points[0], options.points[1], options.points[2]},
          windows_(mesh_windows(points_, options.order).to(options.device)),
          members_(torch::empty({0}, there(torch::kInt32))),
          sigma_(torch::full({1}, options.sigma, there(torch::kFloat64))) {
        const auto [inner, outer] = taper_range(mesh_wave_accuracy(options.accuracy));
        edge_ = {inner / options.sigma, outer / options.sigma};
    }

    const CoulombSum &solve(const double *cell, const MeshCharges &atoms) override {
        const c10::InferenceMode guard;
        ranks_.run([&] { sum(cell, atoms); });
        return result_;
    }

    std::size_t memory_bytes() const override {
        const auto n = static_cast<std::size_t>(points_[0] * points_[1] * points_[2]);
        return n * (options_.single ? 16 : 24) + found_.nbytes() * 3 +
               (host_ ? host_->memory_bytes() : 0);
    }

  private:
    void sum(const double *cell, const MeshCharges &atoms) {
        const auto count = static_cast<int64_t>(atoms.n);
        set_cell(cell);
        set_size(count);
        positions_.copy_(on_host(atoms.positions, {count, 3}));
        charges_.copy_(on_host(atoms.charges, {count}));
        double largest = 0.0;
        for (std::size_t i = 0; i < atoms.n; ++i) {
            largest = std::max(largest, std::abs(atoms.charges[i]));
        }
        found_.copy_(mesh_sum(positions_, charges_, members_, windows_, sigma_, cell_, points_,
                              options_.order, edge_, largest, options_.single));
        const double *values = found_.data_ptr<double>();
        const double *potentials = values + 3 * atoms.n;
        result_.forces.assign(values + 3 * atoms.first, values + 3 * atoms.last);
        result_.potentials.assign(potentials + atoms.first, potentials + atoms.last);
        add_rest(values + 4 * atoms.n, atoms);
        result_.atom_virials.clear();
        result_.source_moments.clear();
        if (atoms.atom_virials || atoms.source_moments) {
            add_from_host(cell, atoms);
        }
    }

    torch::TensorOptions there(torch::ScalarType type) const {
        return torch::TensorOptions(type).device(options_.device);
    }
    static Tensor on_host(const double *values, at::IntArrayRef sizes) {
        return torch::from_blob(const_cast<double *>(values), sizes, torch::kFloat64);
    }

    void set_size(int64_t count) {
        if (!found_.defined() || charges_.size(0) != count) {
            positions_ = torch::empty({count, 3}, there(torch::kFloat64));
            charges_ = torch::empty({count}, there(torch::kFloat64));
            found_ = torch::empty(
                {4 * count + 7},
                torch::TensorOptions(torch::kFloat64).pinned_memory(options_.device.is_cuda()));
        }
    }

    // From the same mesh on the host: they are asked for now and then.
    void add_from_host(const double *cell, const MeshCharges &atoms) {
        if (host_ == nullptr) {
            MeshOptions options = options_;
            options.on_device = false;
            options.device = torch::kCPU;
            host_ = make(options);
        }
        const CoulombSum &there = host_->solve(cell, atoms);
        result_.atom_virials = there.atom_virials;
        result_.source_moments = there.source_moments;
    }

    // What charges of 1 e miss of their own on the mesh; depends on the cell alone.
    void set_cell(const double *cell) {
        if (reciprocal_.volume > 0.0 && std::equal(cell, cell + 9, cell_.begin())) {
            return;
        }
        std::copy(cell, cell + 9, cell_.begin());
        reciprocal_ = make_reciprocal(cell);
        const Tensor missing =
            mesh_missing(windows_, sigma_, cell_, points_, edge_).to(torch::kCPU).contiguous();
        own_energy_ = 0.0;
        own_virial_.fill(0.0);
        add_moments(missing.data_ptr<double>(), reciprocal_, own_energy_, own_virial_.data());
    }

    void add_rest(const double *moments, const MeshCharges &atoms) {
        double squares = 0.0, total = 0.0;
        for (std::size_t i = 0; i < atoms.n; ++i) {
            squares += atoms.charges[i] * atoms.charges[i];
            total += atoms.charges[i];
        }
        const double sigma = options_.sigma;
        const double self = -kCoulomb / (std::sqrt(kPi) * sigma);
        const double background = background_energy(total, sigma, reciprocal_.volume);
        result_.energy = squares * (own_energy_ + 0.5 * self) + background;
        for (int c = 0; c < 9; ++c) {
            result_.virial[c] = squares * own_virial_[c] + (c % 4 == 0 ? background : 0.0);
        }
        add_moments(moments, reciprocal_, result_.energy, result_.virial);
        const double shared = -4.0 * kPi * kCoulomb / reciprocal_.volume * total * sigma * sigma;
        for (std::size_t i = atoms.first; i < atoms.last; ++i) {
            result_.potentials[i - atoms.first] +=
                (2.0 * own_energy_ + self) * atoms.charges[i] + shared;
        }
    }

    MeshOptions options_;
    MeshRanks &ranks_;
    std::array<int64_t, 3> points_;
    std::array<double, 2> edge_{};
    Tensor windows_, members_, sigma_;
    std::array<double, 9> cell_{};
    Reciprocal reciprocal_{};
    double own_energy_ = 0.0;  // of a charge of 1 e
    std::array<double, 9> own_virial_{};
    Tensor positions_, charges_, found_;
    std::unique_ptr<MeshSolver> host_;
    CoulombSum result_;
};

}  // namespace

std::unique_ptr<MeshSolver> MeshSolver::make(const MeshOptions &options, MeshRanks &ranks) {
    if (options.on_device || !options.device.is_cpu()) {
        return std::make_unique<DeviceMesh>(options, ranks);
    }
    if (options.single) {
        return std::make_unique<HostMesh<float>>(options, ranks);
    }
    return std::make_unique<HostMesh<double>>(options, ranks);
}

std::unique_ptr<MeshSolver> MeshSolver::make(const MeshOptions &options) {
    static MeshRanks alone;
    return make(options, alone);
}

double background_energy(double total_charge, double sigma, double volume) {
    return -2.0 * kPi * kCoulomb / volume * total_charge * total_charge * sigma * sigma;
}

std::pair<double, double> taper_range(double accuracy) {
    // Of the smooth edge. It lies outside the sphere that the accuracy asks for, so it costs waves
    // (20 % at 1e-6) and never accuracy.
    constexpr double kTaper = 0.25;
    double low = 0.0, high = 6.0;  // erfc(6) = 2e-17
    for (int step = 0; step < 60; ++step) {
        const double middle = 0.5 * (low + high);
        (std::erfc(middle) > accuracy ? low : high) = middle;
    }
    return {high, high + kTaper};
}

double mesh_wave_accuracy(double accuracy) {
    constexpr double kWaves = 1e-3, kMostWaves = 1e-12;
    return std::max(kWaves * accuracy, kMostWaves);
}

}  // namespace equicalc
