// equicalc::tensor_convolution, see tensor_kernels.h and equicalc/nn/tensor_convolution.py: for
// evaluation, with first derivatives by features, distances and harmonics. Radial functions and
// couplings are constants.
#include <algorithm>
#include <atomic>
#include <vector>

#include "operators/fused_ops.h"
#include "operators/op_checks.h"
#include "operators/tensor_chunks.h"
#include "operators/tensor_groups.h"
#include "operators/tensor_kernels.h"
#include "operators/tensor_packing.h"

namespace equicalc {
namespace {

using kernels::kBlock;
using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The Python module's description, see equicalc/nn/convolution_plan.py; kept alive by the caller.
template <typename T>
class Plan {
  public:
    int64_t n_paths, n_groups, widest = 0;
    std::vector<FeatureBlock> inputs, outputs;  // one output for each path

    explicit Plan(const TensorPlan &of)
        : n_paths(of.paths.size(0)),
          n_groups(of.groups.size(0)),
          table_(of.table.data_ptr<T>()),
          block_(of.table.stride(0)),
          couplings_(of.couplings.data_ptr<T>()),
          paths_(of.paths.data_ptr<int64_t>()),
          columns_(of.paths.size(1)),
          groups_(of.groups.data_ptr<int64_t>()) {
        // columns: first feature, channels, components, offset
        const int64_t *row = of.inputs.data_ptr<int64_t>();
        for (int64_t b = 0; b < of.inputs.size(0); ++b, row += 4) {
            inputs.push_back({row[0], row[1], row[1], row[2], row[3]});
        }
        for (int64_t p = 0; p < n_paths; ++p) {
            outputs.push_back({path(p, kOutStart), path(p, kChannels), path(p, kOutComponent),
                               2 * group(path(p, kGroup), 2) + 1, path(p, kOutOffset)});
            widest = std::max(widest, path(p, kChannels));
        }
    }

    int64_t path(int64_t row, PathColumn column) const { return paths_[row * columns_ + column]; }

    // A coupling of a group of paths, whose columns are l1, l2, l3 and the first coefficient.
    kernels::TensorCoupling<T> coupling(int64_t row) const {
        const int64_t square = (2 * group(row, 1) + 1) * (2 * group(row, 2) + 1);
        return {static_cast<int>(group(row, 0)),         static_cast<int>(group(row, 1)),
                static_cast<int>(group(row, 2)),         group(row, 0) == 0 ? 1 : square,
                (square + kBlock - 1) / kBlock * kBlock, couplings_ + group(row, 3)};
    }

    // What does not depend on atoms.
    kernels::TensorPath<T> tensor_path(int64_t p) const {
        kernels::TensorPath<T> result{};
        result.n_channels = path(p, kChannels);
        result.table = {table_ + path(p, kTableBlock) * block_, block_, kBlock};
        result.out_component = path(p, kOutComponent);
        return result;
    }

    // The block of features that a path takes.
    size_t input_of(int64_t p) const {
        size_t block = 0;
        while (inputs[block].offset != path(p, kInOffset)) {
            ++block;
        }
        return block;
    }

  private:
    int64_t group(int64_t row, int64_t column) const { return groups_[row * 4 + column]; }

    const T *table_;
    int64_t block_;
    const T *couplings_;
    const int64_t *paths_;
    int64_t columns_;
    const int64_t *groups_;
};

// The table must hold all rows of all paths: kernels read without asking.
void check_table(const TensorPlan &plan) {
    int64_t rows = 0, blocks = 0;
    const auto knots = spline_knots(plan.knots);
    for (int64_t k = 0; k < knots.n_segments; ++k) {
        rows = std::max(rows, knots.segments[k].row + knots.segments[k].n + 3);
    }
    const Tensor paths = on_host(plan.paths);
    for (int64_t p = 0; p < paths.size(0); ++p) {
        const int64_t *path = paths.data_ptr<int64_t>() + p * paths.size(1);
        blocks = std::max(blocks, path[kTableBlock] + (path[kChannels] + kBlock - 1) / kBlock);
    }
    const Tensor &table = plan.table;
    TORCH_CHECK(table.dim() == 3 && table.size(0) >= blocks && table.size(1) == rows &&
                    table.size(2) == kBlock && table.is_contiguous(),
                "equicalc: the radial table of tensor_convolution must be contiguous with shape [",
                blocks, ", ", rows, ", ", kBlock, "], found ", table.sizes(),
                "; fill it with RadialTable.fit");
}

// Numbers of an atom in the blocks of features.
int64_t width_of(const Tensor &inputs) {
    const Tensor blocks = on_host(inputs);
    int64_t width = 0;
    for (int64_t b = 0; b < blocks.size(0); ++b) {
        const int64_t *row = blocks.data_ptr<int64_t>() + 4 * b;
        width += row[1] * row[2];
    }
    return width;
}

// Of the harmonics that the groups of paths couple.
int64_t highest_degree(const Tensor &groups) {
    const Tensor couplings = on_host(groups);
    int64_t l_max = 0;
    for (int64_t g = 0; g < couplings.size(0); ++g) {
        l_max = std::max(l_max, couplings.data_ptr<int64_t>()[4 * g]);
    }
    return l_max;
}

// Calls body(chunk, arrays) for all chunks of atoms, in parallel: threads take the next one as they
// get free, so that no core waits for a slower one. Edges of atom i are order[start[i]] ..., or
// start[i] ... without an order.
template <typename T, typename Body>
void for_chunks(const Tensor &distance, const Tensor &harmonics, at::ArrayRef<double> numbers,
                const Tensor &starts, const Tensor &order, const Tensor &other, const Body &body) {
    const kernels::EdgeInputs<T> inputs{distance.data_ptr<T>(), harmonics.data_ptr<T>(),
                                        harmonics.size(1), spline_knots(numbers)};
    const int64_t *start = starts.data_ptr<int64_t>();
    const int64_t *edges = order.defined() ? order.data_ptr<int64_t>() : nullptr;
    const auto firsts = kernels::chunk_atoms(start, starts.numel() - 1);
    const int64_t n_chunks = firsts.size() - 1;
    std::atomic<int64_t> next{0};
    at::parallel_for(
        0, std::min<int64_t>(at::get_num_threads(), n_chunks), 1, [&](int64_t, int64_t) {
            thread_local kernels::ChunkArrays<T> arrays;
            for (int64_t k; (k = next++) < n_chunks;) {
                auto chunk = arrays.gather(inputs, start, edges, other.data_ptr<int64_t>(),
                                           firsts[k], firsts[k + 1]);
                body(chunk, arrays);
            }
        });
}

// Calls body(coupling, path) for the paths of each group, with D of the group at hand.
template <typename T, typename Body>
void for_paths(const Plan<T> &plan, kernels::EdgeChunk<T> &chunk, kernels::ChunkArrays<T> &arrays,
               const Body &body) {
    for (int64_t group = 0; group < plan.n_groups; ++group) {
        const auto coupling = plan.coupling(group);
        arrays.prepare_rotations(chunk, coupling.n_entries);
        kernels::tensor_rotations(coupling, chunk);
        for (int64_t p = 0; p < plan.n_paths; ++p) {
            if (plan.path(p, kGroup) == group) {
                body(coupling, p);
            }
        }
    }
}

// Sums over the lanes of the edges of a chunk, to where they are in edge_index.
template <typename T>
void write_edges(const kernels::EdgeChunk<T> &chunk, const int64_t *edge, T *dr, T *dy) {
    const int64_t n_edges = chunk.start[chunk.n_atoms], n_harmonics = chunk.n_harmonics;
    kernels::tensor_sum_lanes(chunk.sums, n_edges * (1 + n_harmonics));
    for (int64_t k = 0; k < n_edges; ++k) {
        const T *sums = chunk.sums + k * (1 + n_harmonics);
        dr[edge[k]] = sums[0];
        for (int64_t m = 0; m < n_harmonics; ++m) {
            dy[edge[k] * n_harmonics + m] = sums[1 + m];
        }
    }
}

Tensor forward(const Tensor &x, const Tensor &distance, const Tensor &harmonics,
               const Tensor &edge_index, int64_t n_local, int64_t width_out, const Tensor &table,
               const Tensor &couplings, const Tensor &paths, const Tensor &groups,
               const Tensor &inputs, at::ArrayRef<double> knots) {
    check_like(distance, x, "distances");
    check_like(harmonics, x, "harmonics");
    check_like(table, x, "radial tables");
    check_like(couplings, x, "couplings");
    const char *op = "tensor_convolution";
    check_shape(distance, {kAny}, op, "distances");
    check_shape(x, {kAny, width_of(inputs)}, op, "features");
    check_shape(harmonics, {distance.size(0), kAny}, op, "harmonics");
    check_edges(edge_index, distance.size(0), x.size(0), x, op);
    const int64_t l_max = highest_degree(groups);
    TORCH_CHECK(harmonics.size(1) >= (l_max + 1) * (l_max + 1), "equicalc: ", op,
                " takes harmonics up to degree ", l_max, ", found ", harmonics.size(1),
                " components");
    TORCH_CHECK(x.size(0) <= INT32_MAX, "equicalc: at most ", INT32_MAX, " atoms, found ",
                x.size(0));
    const TensorPlan description{table, couplings, paths, groups, inputs, knots};
    check_table(description);
    if (uses_groups(x)) {
        return tensor_forward_groups(x.contiguous(), distance.contiguous(), harmonics.contiguous(),
                                     edge_index, n_local, width_out, description);
    }
    const Tensor starts = row_starts(edge_index.select(0, 0).contiguous(), n_local);
    const Tensor senders = edge_index.select(0, 1).contiguous();
    const Tensor lengths = distance.contiguous(), y = harmonics.contiguous();
    const int64_t n_total = x.size(0);
    Tensor out = torch::empty({n_local, width_out}, x.options());
    EQUICALC_DISPATCH(x.scalar_type(), "tensor_convolution", [&] {
        const Plan<scalar_t> plan(description);
        const Tensor packed = pack(x.contiguous(), plan.inputs, Order::kBlocks);
        for_chunks<scalar_t>(
            lengths, y, knots, starts, Tensor(), senders, [&](auto &chunk, auto &arrays) {
                for_paths<scalar_t>(plan, chunk, arrays, [&](const auto &coupling, int64_t p) {
                    auto path = plan.tensor_path(p);
                    path.x =
                        packed_block<const scalar_t>(packed.data_ptr<scalar_t>(), plan.inputs,
                                                     plan.input_of(p), n_total, Order::kBlocks);
                    path.out = out.data_ptr<scalar_t>() + plan.path(p, kOutStart);
                    path.out_atom = width_out;
                    kernels::tensor_forward(coupling, path, chunk);
                });
            });
    });
    return out;
}

std::tuple<Tensor, Tensor, Tensor> backward(const Tensor &grad, const Tensor &x,
                                            const Tensor &distance, const Tensor &harmonics,
                                            const Tensor &edge_index, const Tensor &table,
                                            const Tensor &couplings, const Tensor &paths,
                                            const Tensor &groups, const Tensor &inputs,
                                            at::ArrayRef<double> knots) {
    const TensorPlan description{table, couplings, paths, groups, inputs, knots};
    check_table(description);
    if (uses_groups(x)) {
        return tensor_backward_groups(grad.contiguous(), x.contiguous(), distance.contiguous(),
                                      harmonics.contiguous(), edge_index, description);
    }
    const int64_t n_total = x.size(0), n_local = grad.size(0), width = x.size(1);
    const Tensor receivers = edge_index.select(0, 0).contiguous();
    const auto transposed = transpose_edges(edge_index.select(0, 1).contiguous(), n_total);
    const Tensor &starts = transposed.first, &order = transposed.second;
    const Tensor lengths = distance.contiguous(), y = harmonics.contiguous();
    Tensor dx = torch::zeros({n_total, width}, x.options());
    Tensor dr = torch::empty_like(lengths), dy = torch::empty_like(y);
    EQUICALC_DISPATCH(x.scalar_type(), "tensor_convolution_backward", [&] {
        const Plan<scalar_t> plan(description);
        const Tensor packed = pack(x.contiguous(), plan.inputs, Order::kBlocks);
        const Tensor packed_grad = pack(grad.contiguous(), plan.outputs, Order::kAtoms);
        const int64_t size = packed_size(plan.inputs);
        for_chunks<scalar_t>(
            lengths, y, knots, starts, order, receivers, [&](auto &chunk, auto &arrays) {
                const int64_t n = chunk.n_atoms;
                arrays.prepare_sums(chunk, plan.widest);
                scalar_t *by_x = arrays.zeros(n * size);
                for_paths<scalar_t>(plan, chunk, arrays, [&](const auto &coupling, int64_t p) {
                    auto path = plan.tensor_path(p);
                    const size_t block = plan.input_of(p);
                    path.x = packed_block<const scalar_t>(packed.data_ptr<scalar_t>(), plan.inputs,
                                                          block, n_total, Order::kBlocks);
                    path.grad = packed_block<const scalar_t>(
                        packed_grad.data_ptr<scalar_t>(), plan.outputs, p, n_local, Order::kAtoms);
                    path.grad_x =
                        packed_block<scalar_t>(by_x, plan.inputs, block, n, Order::kBlocks);
                    kernels::tensor_backward(coupling, path, chunk);
                });
                move_rows<false>(plan.inputs, dx.data_ptr<scalar_t>() + chunk.first_atom * width,
                                 width, by_x, n, Order::kBlocks, 0, n);
                const int64_t *edges = order.data_ptr<int64_t>();
                write_edges(chunk, edges + starts.data_ptr<int64_t>()[chunk.first_atom],
                            dr.data_ptr<scalar_t>(), dy.data_ptr<scalar_t>());
            });
    });
    return {dx, dr, dy};
}

Tensor forward_meta(const Tensor &x, const Tensor &, const Tensor &, const Tensor &,
                    c10::SymInt n_local, c10::SymInt width_out, const Tensor &, const Tensor &,
                    const Tensor &, const Tensor &, const Tensor &, at::ArrayRef<double>) {
    return at::empty_symint({n_local, width_out}, x.options());
}

std::tuple<Tensor, Tensor, Tensor> backward_meta(const Tensor &, const Tensor &x,
                                                 const Tensor &distance, const Tensor &harmonics,
                                                 const Tensor &, const Tensor &, const Tensor &,
                                                 const Tensor &, const Tensor &, const Tensor &,
                                                 at::ArrayRef<double>) {
    return {at::empty_like(x), at::empty_like(distance), at::empty_like(harmonics)};
}

// Both ways go through the dispatcher, so that tracers see operators and not what is in them.
struct TensorConvolution : torch::autograd::Function<TensorConvolution> {
    static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &distance,
                          const Tensor &harmonics, const Tensor &edge_index, c10::SymInt n_local,
                          c10::SymInt width_out, const Tensor &table, const Tensor &couplings,
                          const Tensor &paths, const Tensor &groups, const Tensor &inputs,
                          const std::vector<double> &knots) {
        TORCH_CHECK(!table.requires_grad(),
                    "equicalc: the radial table of tensor_convolution is a constant; train with "
                    "TensorConvolution.with_weights");
        at::AutoDispatchBelowADInplaceOrView guard;
        context->save_for_backward(
            {x, distance, harmonics, edge_index, table, couplings, paths, groups, inputs});
        context->saved_data["knots"] = knots;
        static const auto op = operator_of<decltype(forward_meta)>("equicalc::tensor_convolution");
        return op.call(x, distance, harmonics, edge_index, n_local, width_out, table, couplings,
                       paths, groups, inputs, knots);
    }

    static variable_list backward(AutogradContext *context, const variable_list &grads) {
        refuse_second_derivative("tensor_convolution", "train with TensorConvolution.with_weights");
        const auto s = context->get_saved_variables();
        const auto knots = context->saved_data["knots"].toDoubleVector();
        static const auto op =
            operator_of<decltype(backward_meta)>("equicalc::tensor_convolution_backward");
        auto [dx, dr, dy] =
            op.call(grads[0], s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], knots);
        variable_list result(12);
        result[0] = dx;
        result[1] = dr;
        result[2] = dy;
        return result;
    }
};

Tensor with_autograd(const Tensor &x, const Tensor &distance, const Tensor &harmonics,
                     const Tensor &edge_index, c10::SymInt n_local, c10::SymInt width_out,
                     const Tensor &table, const Tensor &couplings, const Tensor &paths,
                     const Tensor &groups, const Tensor &inputs, at::ArrayRef<double> knots) {
    return TensorConvolution::apply(x, distance, harmonics, edge_index, n_local, width_out, table,
                                    couplings, paths, groups, inputs, knots.vec());
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(equicalc, library) {
    library.def(
        "tensor_convolution(Tensor x, Tensor distance, Tensor harmonics, Tensor edge_index, "
        "SymInt n_local, SymInt width_out, Tensor table, Tensor couplings, Tensor paths, "
        "Tensor groups, Tensor inputs, float[] segments) -> Tensor");
    library.def(
        "tensor_convolution_backward(Tensor grad, Tensor x, Tensor distance, Tensor harmonics, "
        "Tensor edge_index, Tensor table, Tensor couplings, Tensor paths, Tensor groups, "
        "Tensor inputs, float[] segments) -> (Tensor, Tensor, Tensor)");
}

EQUICALC_REGISTER_KERNELS(tensor_convolution, forward)
EQUICALC_REGISTER(tensor_convolution, forward_meta, Meta)
EQUICALC_REGISTER(tensor_convolution, with_autograd, Autograd)
EQUICALC_REGISTER_KERNELS(tensor_convolution_backward, backward)
EQUICALC_REGISTER(tensor_convolution_backward, backward_meta, Meta)

}  // namespace equicalc
