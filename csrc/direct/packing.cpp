#include "direct/packing.h"

#include <cmath>
#include <map>
#include <utility>

namespace equicalc::direct {

using torch::Tensor;

namespace {

// Intervals up to the cutoff. The error of the slopes, of order 1e-8 (float) and 1e-12 (double) of
// the largest ones, is below rounding.
template <typename T>
constexpr int64_t kIntervals = sizeof(T) == 4 ? 512 : 4096;

// Values and two derivatives of radial functions at distances, [3, n, n_radial].
Tensor radial_derivatives(const Parts &parts, const std::string &path, const Tensor &distances) {
    const Tensor w1 = parts.tensor(path + ".mlp.0.weight").t();
    const Tensor b1 = parts.tensor(path + ".mlp.0.bias");
    const Tensor w2 = parts.tensor(path + ".mlp.2.weight").t();
    const Tensor b2 = parts.tensor(path + ".mlp.2.bias");
    const double cutoff = parts.number(path + ".range");
    const double prefactor = parts.number(path + ".prefactor");
    const Tensor r = distances.unsqueeze(1);
    const Tensor k = torch::arange(1, w1.size(0) + 1, r.options()) * (M_PI / cutoff);
    // sin(k r) / r and its derivatives; the limits at r = 0
    Tensor j0 = prefactor * (r * k).sin() / r;
    Tensor j1 = (prefactor * k * (r * k).cos() - j0) / r;
    Tensor j2 = -k.square() * j0 - 2 * j1 / r;
    j0 = torch::where(r > 0, j0, prefactor * k);
    j1 = torch::where(r > 0, j1, torch::zeros_like(k));
    j2 = torch::where(r > 0, j2, -prefactor / 3 * k.pow(3));
    const Tensor h = torch::addmm(b1, j0, w1), h1 = j1.mm(w1), h2 = j2.mm(w1), gate = h.sigmoid();
    const Tensor gain = gate * (1 + h * (1 - gate));
    const Tensor bend = gate * (1 - gate) * (2 + h * (1 - 2 * gate));
    const Tensor out = torch::addmm(b2, h * gate, w2), out1 = (gain * h1).mm(w2);
    const Tensor out2 = (bend * h1.square() + gain * h2).mm(w2);
    const Tensor x = r / cutoff;
    const Tensor u = 1 - x.pow(6) * (28 - x * (48 - x * 21));
    const Tensor u1 = x.pow(5) * (1 - x).square() * (-168 / cutoff);
    const Tensor u2 = x.pow(4) * (1 - x) * (5 - 7 * x) * (-168 / (cutoff * cutoff));
    return torch::stack({out * u, out1 * u + out * u1, out2 * u + 2 * out1 * u1 + out * u2});
}

}  // namespace

template <typename T>
PackedMatrix<T>::PackedMatrix(const Tensor &values) : k_(values.size(0)) {
    const Tensor columns = pad_last(values, padded<T>(values.size(1)));
    n_ = columns.size(1);
    const Tensor panels = columns.view({k_, n_ / kBlock<T>, kBlock<T>}).permute({1, 0, 2});
    const std::vector<T> flat = values_of<T>(panels);
    std::copy(flat.begin(), flat.end(), panels_.ensure(int64_t(flat.size())));
}

template <typename T>
std::vector<T> values_of(const Tensor &tensor) {
    const Tensor cast = tensor.to(c10::CppTypeToScalarType<T>::value).contiguous();
    return {cast.template data_ptr<T>(), cast.template data_ptr<T>() + cast.numel()};
}

Tensor pad_last(const Tensor &tensor, int64_t width) {
    return torch::constant_pad_nd(tensor, {0, width - tensor.size(-1)});
}

Tensor pad_groups(const Tensor &matrix, int64_t group, int64_t padded_group) {
    const int64_t n_groups = matrix.size(0) / group, n = matrix.size(1);
    return torch::constant_pad_nd(matrix.reshape({n_groups, group, n}),
                                  {0, 0, 0, padded_group - group})
        .reshape({n_groups * padded_group, n});
}

template <typename T>
PackedRadial<T>::PackedRadial(const Parts &parts, const std::string &path, double factor)
    : n_intervals_(kIntervals<T>) {
    const double cutoff = parts.number(path + ".range");
    per_interval_ = double(n_intervals_) / cutoff;
    const double step = cutoff / double(n_intervals_);
    const Tensor knots = torch::arange(n_intervals_ + 1, torch::kFloat64) * step;
    const Tensor all = radial_derivatives(parts, path, knots) * factor;
    n_functions_ = all.size(2);
    n_radial_ = round_up(n_functions_, kRadialBlock);
    const auto at = [&](int64_t order, int64_t end) {
        return all[order].narrow(0, end, n_intervals_) * std::pow(step, double(order));
    };
    const Tensor f0 = at(0, 0), d0 = at(1, 0), s0 = at(2, 0), d1 = at(1, 1), s1 = at(2, 1);
    const Tensor rise = at(0, 1) - f0;
    const Tensor polynomials =
        torch::stack({f0, d0, 0.5 * s0, 10 * rise - 6 * d0 - 4 * d1 - 1.5 * s0 + 0.5 * s1,
                      -15 * rise + 8 * d0 + 7 * d1 + 1.5 * s0 - s1,
                      6 * rise - 3 * d0 - 3 * d1 - 0.5 * s0 + 0.5 * s1},
                     1);
    coefficients_ = values_of<T>(pad_last(polynomials, n_radial_));
}

namespace {

// Rows of a coupling whose target lies below `end`, ordered by it.
std::vector<int64_t> rows_by_target(const Tensor &rows, int64_t end) {
    const Tensor targets = rows[2].narrow(0, 0, rows.size(1) - 1);
    const Tensor order = std::get<1>(targets.sort(/*stable=*/true, /*dim=*/0, false));
    const int64_t count = targets.lt(end).sum().item<int64_t>();
    return {order.data_ptr<int64_t>(), order.data_ptr<int64_t>() + count};
}

// Whether a coupling is that of a constant table, to rounding.
template <typename T, typename Table>
bool is_fixed(const Table &table, const PackedTerms<T> &terms, const std::vector<double> &exact) {
    if (terms.target.size() != Table::n_rows || terms.left.size() != Table::n_terms) {
        return false;
    }
    for (int t = 0; t < Table::n_terms; ++t) {
        const auto &[row, left, right, factor] = table.terms[t];
        const auto &[target, path] = table.rows[row];
        if (terms.target[row] != target || terms.path[row] != path || terms.start[row] > t ||
            terms.start[row + 1] <= t || terms.left[t] != left || terms.right[t] != right ||
            std::abs(exact[t] * std::sqrt(table.squares[path]) - factor) > 1e-12) {
            return false;
        }
    }
    return true;
}

template <typename Table>
Tensor norms(const Table &table) {
    return torch::tensor(at::ArrayRef<double>(table.squares, Table::n_paths), torch::kFloat64)
        .rsqrt()
        .view({1, -1, 1});
}

}  // namespace

template <typename T>
PackedCoupling<T>::PackedCoupling(const Parts &parts, const std::string &path, int64_t up_to_degree,
                                  bool symmetric) {
    const Tensor rows = parts.tensor(path + ".rows"), terms = parts.tensor(path + ".terms");
    const Tensor coefficients = parts.tensor(path + ".coefficients");
    const int64_t n_components = (parts.l_max + 1) * (parts.l_max + 1);
    const auto row = rows.accessor<int64_t, 2>(), term = terms.accessor<int64_t, 2>();
    const auto factor = coefficients.accessor<double, 1>();
    // target -> (row, component of the other factor) -> coefficient
    typedef std::map<std::pair<int32_t, int32_t>, double> Entries;
    std::vector<Entries> to_left(n_components), to_right(n_components);
    std::vector<double> exact;
    values.start.push_back(0);
    for (const int64_t k : rows_by_target(rows, (up_to_degree + 1) * (up_to_degree + 1))) {
        const auto number = int32_t(values.target.size());
        for (int64_t t = row[0][k]; t < row[0][k + 1]; ++t) {
            const auto left = int32_t(term[0][t]), right = int32_t(term[1][t]);
            values.left.push_back(left);
            values.right.push_back(right);
            values.coefficient.push_back(T(factor[t]));
            exact.push_back(factor[t]);
            to_left[left][{number, right}] += factor[t];
            (symmetric ? to_left : to_right)[right][{number, left}] += factor[t];
        }
        values.start.push_back(int32_t(values.left.size()));
        values.target.push_back(int32_t(row[2][k]));
        values.path.push_back(int32_t(row[1][k]));
    }
    const auto fill = [](const std::vector<Entries> &from, PackedTerms<T> &to) {
        to.start.push_back(0);
        for (size_t target = 0; target < from.size(); ++target) {
            for (const auto &[where, coefficient] : from[target]) {
                to.left.push_back(where.first);
                to.right.push_back(where.second);
                to.coefficient.push_back(T(coefficient));
            }
            to.start.push_back(int32_t(to.left.size()));
            to.target.push_back(int32_t(target));
            to.path.push_back(0);
        }
    };
    fill(to_left, by_left);
    fill(to_right, by_right);
    Tensor all = pad_last(parts.tensor(path + ".weight"), padded<T>(parts.channels));
    if (symmetric && is_fixed(kSquare, values, exact)) {
        fixed = FixedCoupling::square;
        all = all * norms(kSquare);
    } else if (!symmetric && is_fixed(kProduct, values, exact)) {
        fixed = FixedCoupling::product;
        all = all * norms(kProduct);
    }
    n_weights = all.size(1) * all.size(2);
    weight = values_of<T>(all);
}

template <typename T>
PackedFullConvolution<T>::PackedFullConvolution(const Parts &parts, const std::string &path,
                                                int64_t n_radial)
    : l_max_(parts.l_max), n_radial_(n_radial), channels_(padded<T>(parts.channels)) {
    const Tensor rows = parts.tensor(path + ".rows"), entries = parts.tensor(path + ".entries");
    const int64_t n_rows = rows.size(1) - 1, n_entries = entries.size(1) - 1;
    row_start_ = values_of<int32_t>(rows[0]);
    row_path_ = values_of<int32_t>(rows[1].narrow(0, 0, n_rows));
    row_out_ = values_of<int32_t>(rows[2].narrow(0, 0, n_rows));
    entry_start_ = values_of<int32_t>(entries[0]);
    entry_in_ = values_of<int32_t>(entries[1].narrow(0, 0, n_entries));
    for (int64_t row = 0; row < n_rows; ++row) {
        entry_row_.resize(row_start_[row + 1], int32_t(row));
    }
    term_harmonic_ = values_of<int32_t>(parts.tensor(path + ".terms"));
    coefficient_ = values_of<T>(parts.tensor(path + ".coefficients"));
    in_start_.push_back(0);
    for (int64_t m = 0; m < (l_max_ + 1) * (l_max_ + 1); ++m) {
        for (int64_t entry = 0; entry < n_entries; ++entry) {
            if (entry_in_[entry] == m) {
                in_entry_.push_back(int32_t(entry));
            }
        }
        in_start_.push_back(int32_t(in_entry_.size()));
    }
    const Tensor weight = parts.tensor(path + ".weight");  // [n_functions, n_paths, channels]
    n_paths_ = weight.size(1);
    weights_ = PackedMatrix<T>(torch::constant_pad_nd(pad_last(weight, channels_),
                                                      {0, 0, 0, 0, 0, n_radial_ - weight.size(0)})
                                   .reshape({n_radial_, n_paths_ * channels_}));
}

template <typename T>
FullConvolution<T> PackedFullConvolution<T>::view() const {
    return {{l_max_, n_radial_},
            channels_,
            int64_t(row_out_.size()),
            int64_t(entry_in_.size()),
            n_paths_,
            row_start_.data(),
            row_path_.data(),
            row_out_.data(),
            entry_start_.data(),
            entry_in_.data(),
            entry_row_.data(),
            term_harmonic_.data(),
            coefficient_.data(),
            in_start_.data(),
            in_entry_.data(),
            weights_.view()};
}

#define EQUICALC_INSTANTIATE(T)                           \
    template std::vector<T> values_of<T>(const Tensor &); \
    template class PackedMatrix<T>;                       \
    template class PackedRadial<T>;                       \
    template struct PackedCoupling<T>;                    \
    template class PackedFullConvolution<T>;

EQUICALC_INSTANTIATE(float)
EQUICALC_INSTANTIATE(double)

#undef EQUICALC_INSTANTIATE

}  // namespace equicalc::direct
