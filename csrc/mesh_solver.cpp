#include "mesh_solver.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>

#include "device_mesh.h"
#include "mesh.h"
#include "mesh_filter.h"
#include "waves.h"

namespace equicalc {
namespace {

using torch::Tensor;

constexpr int64_t kAlong[] = {1, 2, 3};

template <class Real>
class HostMesh : public MeshSolver {
  public:
    explicit HostMesh(const MeshOptions &options)
        : options_(options), sums_{mesh_options(options)} {
        constexpr auto real = c10::CppTypeToScalarType<Real>::value;
        const auto [nx, ny, nz] = options.points;
        density_ = torch::zeros({1, nx, ny, nz}, real);
        spectrum_ = torch::zeros({1, nx, ny, nz / 2 + 1}, c10::toComplexType(real));
    }

    const CoulombSum &solve(const double *cell, const MeshCharges &atoms) override {
        const c10::InferenceMode guard;
        set_cell(cell);
        sigmas_.assign(atoms.n, options_.sigma);
        mesh_->set_charges({atoms.n, atoms.charges, atoms.positions, sigmas_.data()});
        const int64_t points[] = {options_.points[0], options_.points[1], options_.points[2]};
        Real *density = density_.data_ptr<Real>();
        mesh_->spread(density);
        at::fft_rfftn_out(spectrum_, density_, std::nullopt, kAlong);
        if (atoms.atom_virials) {
            if (!kept_.defined()) {
                kept_ = torch::empty_like(spectrum_);
            }
            kept_.copy_(spectrum_);
        }
        mesh_->convolve(complex(spectrum_));
        at::fft_irfftn_out(density_, spectrum_, at::IntArrayRef(points), kAlong, "forward");
        mesh_->gather(density, atoms.first, atoms.last, result_);
        result_.atom_virials.clear();
        if (atoms.atom_virials) {
            add_atom_virials(points, atoms);
        }
        return result_;
    }

    std::size_t memory_bytes() const override {
        // the filter has as much as the spectrum; splines are 48 numbers
        return density_.nbytes() + 2 * spectrum_.nbytes() + (kept_.defined() ? kept_.nbytes() : 0) +
               sigmas_.capacity() * (48 * sizeof(Real) + 12 * sizeof(double));
    }

  private:
    static std::complex<Real> *complex(const Tensor &spectrum) {
        return reinterpret_cast<std::complex<Real> *>(spectrum.data_ptr<c10::complex<Real>>());
    }

    void add_atom_virials(at::IntArrayRef points, const MeshCharges &atoms) {
        mesh_->begin_atom_virials(atoms.first, atoms.last, result_);
        for (int a = 0; a < 3; ++a) {
            for (int b = a; b < 3; ++b) {
                mesh_->stress_spectrum(complex(kept_), a, b, complex(spectrum_));
                at::fft_irfftn_out(density_, spectrum_, points, kAlong, "forward");
                mesh_->gather_atom_virials(density_.data_ptr<Real>(), a, b, atoms.first, atoms.last,
                                           result_);
            }
        }
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
            mesh_ =
                std::make_unique<CoulombMesh<Real>>(cell, options_.points.data(), options_.order,
                                                    std::vector<double>{options_.sigma}, sums_);
        } else {
            mesh_->set_cell(cell);
        }
        std::copy(cell, cell + 9, cell_.begin());
    }

    MeshOptions options_;
    CoulombOptions sums_;
    std::unique_ptr<CoulombMesh<Real>> mesh_;
    std::array<double, 9> cell_{};
    Tensor density_, spectrum_;
    Tensor kept_;  // the spectrum of the charges, where virials of atoms are asked for
    std::vector<double> sigmas_;
    CoulombSum result_;
};

// Formulas are those of mesh.h.
class DeviceMesh : public MeshSolver {
  public:
    explicit DeviceMesh(const MeshOptions &options)
        : options_(options),
          points_{options.points[0], options.points[1], options.points[2]},
          windows_(mesh_windows(points_, options.order).to(options.device)),
          members_(torch::empty({0}, there(torch::kInt32))),
          sigma_(torch::full({1}, options.sigma, there(torch::kFloat64))) {
        const auto [inner, outer] = taper_range(mesh_wave_accuracy(options.accuracy));
        edge_ = {inner / options.sigma, outer / options.sigma};
    }

    const CoulombSum &solve(const double *cell, const MeshCharges &atoms) override {
        const c10::InferenceMode guard;
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
        result_.forces.assign(values, values + 3 * atoms.n);
        result_.potentials.assign(values + 3 * atoms.n, values + 4 * atoms.n);
        add_rest(values + 4 * atoms.n, atoms);
        result_.atom_virials.clear();
        if (atoms.atom_virials) {
            add_atom_virials(cell, atoms);
        }
        return result_;
    }

    std::size_t memory_bytes() const override {
        const auto n = static_cast<std::size_t>(points_[0] * points_[1] * points_[2]);
        return n * (options_.single ? 16 : 24) + found_.nbytes() * 3 +
               (host_ ? host_->memory_bytes() : 0);
    }

  private:
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
    void add_atom_virials(const double *cell, const MeshCharges &atoms) {
        if (host_ == nullptr) {
            MeshOptions options = options_;
            options.on_device = false;
            options.device = torch::kCPU;
            host_ = make(options);
        }
        result_.atom_virials = host_->solve(cell, atoms).atom_virials;
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
            result_.potentials[i] += (2.0 * own_energy_ + self) * atoms.charges[i] + shared;
        }
    }

    MeshOptions options_;
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

std::unique_ptr<MeshSolver> MeshSolver::make(const MeshOptions &options) {
    if (options.on_device || !options.device.is_cpu()) {
        return std::make_unique<DeviceMesh>(options);
    }
    if (options.single) {
        return std::make_unique<HostMesh<float>>(options);
    }
    return std::make_unique<HostMesh<double>>(options);
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
