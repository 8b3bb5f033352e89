#include "coulomb/mesh_choice.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

namespace equicalc {

const std::vector<double> &mesh_accuracies() {
    static const std::vector<double> accuracies{1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8};
    return accuracies;
}

// Measured against the exact sum for random unit charges of sigma = 1 A, 0.05 per A^3, in cubic and
// triclinic cells: the rms error of forces is 5 eV/A times the accuracy. (In rock salt with
// displaced atoms it is a sixth of that.)
const std::map<int, std::vector<double>> &mesh_spacings() {
    static const std::map<int, std::vector<double>> spacings{
        {4, {1.17, 0.62, 0.29}},
        {5, {1.42, 0.94, 0.61, 0.37}},
        {6, {1.52, 1.08, 0.77, 0.54, 0.36}},
        {7, {1.58, 1.17, 0.90, 0.68, 0.51, 0.37}},
        {8, {1.61, 1.23, 0.97, 0.78, 0.61, 0.47, 0.35}},
    };
    return spacings;
}

double mesh_spacing(int order, double accuracy) {
    const auto found = mesh_spacings().find(order);
    if (found == mesh_spacings().end()) {
        return 0.0;
    }
    const std::vector<double> &accuracies = mesh_accuracies(), &spacings = found->second;
    if (accuracy >= accuracies[0]) {
        return spacings[0];
    }
    for (std::size_t k = 1; k < spacings.size(); ++k) {
        if (accuracy >= accuracies[k]) {
            const double part = std::log(accuracy / accuracies[k - 1]) /
                                std::log(accuracies[k] / accuracies[k - 1]);
            return spacings[k - 1] * std::pow(spacings[k] / spacings[k - 1], part);
        }
    }
    return 0.0;
}

double mesh_accuracy(int order, double spacing) {
    const std::vector<double> &accuracies = mesh_accuracies();
    const std::vector<double> &spacings = mesh_spacings().at(order);
    std::size_t k = 1;
    while (k + 1 < spacings.size() && spacing < spacings[k]) {
        ++k;
    }
    const double part =
        std::log(spacing / spacings[k - 1]) / std::log(spacings[k] / spacings[k - 1]);
    return accuracies[k - 1] * std::pow(accuracies[k] / accuracies[k - 1], part);
}

// Measured for random charges of equal size, orders 5 to 8, sigma of 0.4 to 1.5 A and 0.01 to 0.1
// per A^3, within 10 %.
double mesh_force_error(double accuracy, double mean_square, double density, double sigma) {
    constexpr double kForce = 3.3, kOthers = 20.0;
    const double others = kOthers * density * sigma * sigma * sigma;
    return kForce * accuracy * mean_square / (sigma * sigma) * std::sqrt(1.0 + others);
}

double mesh_cost(double n_atoms, double n_points, int order, const MeshCosts &costs) {
    return costs.call + costs.point * n_points + costs.spline * n_atoms * order * order;
}

MeshSpline cheapest_spline(double n_atoms, double volume, double accuracy, const MeshCosts &costs) {
    MeshSpline best;
    double least = std::numeric_limits<double>::infinity();
    for (const auto &[order, spacings] : mesh_spacings()) {
        const double spacing = mesh_spacing(order, accuracy);
        if (spacing == 0.0) {
            continue;
        }
        const double cost = mesh_cost(n_atoms, volume / std::pow(spacing, 3), order, costs);
        if (cost < least) {
            least = cost;
            best = {order, spacing};
        }
    }
    return best;
}

int fft_size(double minimum) {
    for (int n = std::max(1, static_cast<int>(std::ceil(minimum)));; ++n) {
        int rest = n;
        for (const int factor : {2, 3, 5}) {
            while (rest % factor == 0) {
                rest /= factor;
            }
        }
        if (rest == 1) {
            return n;
        }
    }
}

namespace {

MeshPlan finished(const MeshWish &wish, int order, const std::array<int, 3> &points) {
    double widest = 0.0;
    for (std::size_t a = 0; a < 3; ++a) {
        widest = std::max(widest, wish.lengths[a] / points[a]);
    }
    return {order, points, mesh_accuracy(order, widest)};
}

// The lowest order that reaches the accuracy on this mesh, or else the one that comes closest.
MeshPlan on_given_points(const MeshWish &wish) {
    MeshPlan best;
    for (const auto &[order, spacings] : mesh_spacings()) {
        if (wish.order != 0 && order != wish.order) {
            continue;
        }
        if (*std::min_element(wish.points.begin(), wish.points.end()) < order) {
            continue;
        }
        const MeshPlan plan = finished(wish, order, wish.points);
        if (best.order == 0 || (best.accuracy > wish.accuracy && plan.accuracy < best.accuracy)) {
            best = plan;
        }
    }
    return best;
}

}  // namespace

MeshPlan plan_mesh(const MeshWish &wish, const MeshCosts &costs) {
    if (wish.points[0] > 0) {
        return on_given_points(wish);
    }
    const MeshSpline spline = wish.order == 0
                                  ? cheapest_spline(wish.n_atoms, wish.volume, wish.accuracy, costs)
                                  : MeshSpline{wish.order, mesh_spacing(wish.order, wish.accuracy)};
    if (spline.spacing == 0.0) {
        return {};
    }
    std::array<int, 3> points{};
    for (std::size_t a = 0; a < 3; ++a) {
        points[a] =
            fft_size(std::max(static_cast<double>(spline.order), wish.lengths[a] / spline.spacing));
    }
    return finished(wish, spline.order, points);
}

}  // namespace equicalc
