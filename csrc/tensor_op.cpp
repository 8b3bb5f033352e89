// equicalc::tensor_convolution, see tensor_kernels.h and equicalc/nn/tensor_convolution.py: for
// evaluation, with first derivatives by features, distances and harmonics. Radial functions and
// couplings are constants.
#include <algorithm>
#include <vector>

#include "fused_ops.h"
#include "tensor_chunks.h"
#include "tensor_groups.h"
#include "tensor_kernels.h"

namespace equicalc {
namespace {

using kernels::kBlock;
using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// One block of features: where it starts in a row of [n, W], and its shape.
struct FeatureBlock {
    int64_t start, channels, component, n_components, offset;

    int64_t n_blocks() const { return (channels + kBlock - 1) / kBlock; }
    int64_t size() const { return n_blocks() * n_components * kBlock; }
};

// The Python module's description; tensors are kept alive by the caller.
struct Plan {
    const Tensor &table, &couplings, &paths, &groups, &inputs;

    int64_t n_paths() const { return paths.size(0); }
    int64_t path(int64_t row, PathColumn column) const {
        return paths.data_ptr<int64_t>()[row * paths.size(1) + column];
    }
    int64_t group(int64_t row, int64_t column) const {
        return groups.data_ptr<int64_t>()[row * 4 + column];
    }

    // A coupling of a group of paths, whose columns are l1, l2, l3 and the first coefficient.
    template <typename T>
    kernels::TensorCoupling<T> coupling(int64_t row) const {
        const int64_t square = (2 * group(row, 1) + 1) * (2 * group(row, 2) + 1);
        return {static_cast<int>(group(row, 0)),         static_cast<int>(group(row, 1)),
                static_cast<int>(group(row, 2)),         group(row, 0) == 0 ? 1 : square,
                (square + kBlock - 1) / kBlock * kBlock, couplings.data_ptr<T>() + group(row, 3)};
    }

    // Columns of inputs: first feature, channels, components, offset.
    std::vector<FeatureBlock> input_blocks() const {
        std::vector<FeatureBlock> blocks;
        const int64_t *row = inputs.data_ptr<int64_t>();
        for (int64_t b = 0; b < inputs.size(0); ++b, row += 4) {
            blocks.push_back({row[0], row[1], row[1], row[2], row[3]});
        }
        return blocks;
    }
    // One block for each path.
    std::vector<FeatureBlock> output_blocks() const {
        std::vector<FeatureBlock> blocks;
        for (int64_t p = 0; p < n_paths(); ++p) {
            blocks.push_back({path(p, kOutStart), path(p, kChannels), path(p, kOutComponent),
                              2 * group(path(p, kGroup), 2) + 1, path(p, kOutOffset)});
        }
        return blocks;
    }

    // What does not depend on atoms.
    template <typename T>
    kernels::TensorPath<T> tensor_path(int64_t p) const {
        kernels::TensorPath<T> result{};
        result.n_channels = path(p, kChannels);
        result.table = {table.data_ptr<T>() + path(p, kTableBlock) * table.stride(0),
                        table.stride(0), kBlock};
        result.out_component = path(p, kOutComponent);
        return result;
    }
    int64_t widest() const {
        int64_t result = 0;
        for (int64_t p = 0; p < n_paths(); ++p) {
            result = std::max(result, path(p, kChannels));
        }
        return result;
    }
};

int64_t packed_size(const std::vector<FeatureBlock> &blocks) {
    return blocks.empty() ? 0 : blocks.back().offset + blocks.back().size();
}

// Where a block of features is in packed arrays of n atoms: each block of channels with all atoms,
// or each atom with all its numbers.
enum class Order { kBlocks, kAtoms };

template <typename T>
kernels::Packed<T> packed_block(T *packed, const std::vector<FeatureBlock> &blocks, size_t index,
                                int64_t n, Order order) {
    const FeatureBlock &b = blocks[index];
    const int64_t size = b.n_components * kBlock;
    if (order == Order::kBlocks) {
        return {packed + b.offset * n, size * n, size};
    }
    return {packed + b.offset, size, packed_size(blocks)};
}

// Copies the rows [n, width] of atoms [first, last) into packed order, or back.
template <bool kPack, typename T, typename P>
void move_rows(const std::vector<FeatureBlock> &blocks, T *rows, int64_t width, P *packed,
               int64_t n_packed, Order order, int64_t first, int64_t last) {
    for (size_t index = 0; index < blocks.size(); ++index) {
        const FeatureBlock &b = blocks[index];
        const auto target = packed_block(packed, blocks, index, n_packed, order);
        for (int64_t k = 0; k < b.channels; k += kBlock) {
            const int64_t n = std::min(kBlock, b.channels - k);
            for (int64_t i = first; i < last; ++i) {
                T *row = rows + i * width + b.start + k;
                P *other = target.data + k / kBlock * target.block + i * target.atom;
                for (int64_t m = 0; m < b.n_components; ++m) {
                    if constexpr (kPack) {
                        std::copy_n(row + m * b.component, n, other + m * kBlock);
                        std::fill_n(other + m * kBlock + n, kBlock - n, P(0));
                    } else {
                        std::copy_n(other + m * kBlock, n, row + m * b.component);
                    }
                }
            }
        }
    }
}

Tensor pack(const Tensor &features, const std::vector<FeatureBlock> &blocks, Order order) {
    const int64_t n = features.size(0), width = features.size(1);
    Tensor packed = torch::empty({n * packed_size(blocks)}, features.options());
    EQUICALC_DISPATCH(features.scalar_type(), "pack", [&] {
        at::parallel_for(0, n, kGrain, [&](int64_t begin, int64_t end) {
            move_rows<true>(blocks, features.data_ptr<scalar_t>(), width,
                            packed.data_ptr<scalar_t>(), n, order, begin, end);
        });
    });
    return packed;
}

std::vector<kernels::SplineSegment> spline_segments(at::ArrayRef<double> numbers) {
    TORCH_CHECK(numbers.size() >= 4 && numbers.size() % 4 == 0,
                "equicalc: segments of a radial table are four numbers each, found ",
                numbers.size());
    std::vector<kernels::SplineSegment> segments;
    for (size_t k = 0; k < numbers.size(); k += 4) {
        segments.push_back({numbers[k], numbers[k + 1], static_cast<int64_t>(numbers[k + 2]),
                            static_cast<int64_t>(numbers[k + 3])});
    }
    return segments;
}

// The table must hold all rows of all paths: kernels read without asking.
void check_table(const Plan &plan, at::ArrayRef<double> numbers) {
    int64_t rows = 0, blocks = 0;
    for (const auto &segment : spline_segments(numbers)) {
        rows = std::max(rows, segment.row + segment.n + 3);
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

// Calls body(chunk, arrays) for all chunks of atoms, in parallel. Edges of atom i are
// order[start[i]] ..., or start[i] ... without an order.
template <typename T, typename Body>
void for_chunks(const Tensor &distance, const Tensor &harmonics, at::ArrayRef<double> numbers,
                const Tensor &starts, const Tensor &order, const Tensor &other, const Body &body) {
    const auto segments = spline_segments(numbers);
    const kernels::EdgeInputs<T> inputs{distance.data_ptr<T>(),
                                        harmonics.data_ptr<T>(),
                                        harmonics.size(1),
                                        segments.data(),
                                        static_cast<int64_t>(segments.size()),
                                        segments.back().last};
    const int64_t *start = starts.data_ptr<int64_t>();
    const int64_t *edges = order.defined() ? order.data_ptr<int64_t>() : nullptr;
    const auto firsts = kernels::chunk_atoms(start, starts.numel() - 1);
    at::parallel_for(0, firsts.size() - 1, 1, [&](int64_t begin, int64_t end) {
        thread_local kernels::ChunkArrays<T> arrays;
        for (int64_t k = begin; k < end; ++k) {
            auto chunk = arrays.gather(inputs, start, edges, other.data_ptr<int64_t>(), firsts[k],
                                       firsts[k + 1]);
            body(chunk, arrays);
        }
    });
}

// Calls body(path) for the paths of each group, with D of the group at hand.
template <typename T, typename Body>
void for_paths(const Plan &plan, kernels::EdgeChunk<T> &chunk, kernels::ChunkArrays<T> &arrays,
               const Body &body) {
    for (int64_t group = 0; group < plan.groups.size(0); ++group) {
        const auto coupling = plan.template coupling<T>(group);
        arrays.prepare_rotations(chunk, coupling.n_entries);
        kernels::tensor_rotations(coupling, chunk);
        for (int64_t p = 0; p < plan.n_paths(); ++p) {
            if (plan.path(p, kGroup) == group) {
                body(coupling, p);
            }
        }
    }
}

size_t input_of(const std::vector<FeatureBlock> &inputs, int64_t offset) {
    size_t block = 0;
    while (inputs[block].offset != offset) {
        ++block;
    }
    return block;
}

Tensor forward(const Tensor &x, const Tensor &distance, const Tensor &harmonics,
               const Tensor &edge_index, int64_t n_local, int64_t width_out, const Tensor &table,
               const Tensor &couplings, const Tensor &paths, const Tensor &groups,
               const Tensor &inputs, at::ArrayRef<double> segments) {
    check_like(distance, x, "distances");
    check_like(harmonics, x, "harmonics");
    check_like(table, x, "radial tables");
    check_like(couplings, x, "couplings");
    TORCH_CHECK(x.size(0) <= INT32_MAX, "equicalc: at most ", INT32_MAX, " atoms, found ",
                x.size(0));
    const Plan plan{table, couplings, paths, groups, inputs};
    check_table(plan, segments);
    if (uses_groups(x)) {
        return tensor_forward_groups(x.contiguous(), distance.contiguous(), harmonics.contiguous(),
                                     edge_index, n_local, width_out,
                                     {table, couplings, paths, groups, inputs, segments});
    }
    const auto in_blocks = plan.input_blocks();
    const Tensor starts = row_starts(edge_index.select(0, 0).contiguous(), n_local);
    const Tensor senders = edge_index.select(0, 1).contiguous();
    const Tensor lengths = distance.contiguous(), y = harmonics.contiguous();
    const int64_t n_total = x.size(0);
    TORCH_CHECK(senders.numel() == 0 ||
                    (senders.min().item<int64_t>() >= 0 && senders.max().item<int64_t>() < n_total),
                "equicalc: edge_index[1] must hold senders below ", n_total, ", found ",
                senders.numel() ? senders.min().item<int64_t>() : 0, " to ",
                senders.numel() ? senders.max().item<int64_t>() : 0);
    const Tensor packed = pack(x.contiguous(), in_blocks, Order::kBlocks);
    Tensor out = torch::empty({n_local, width_out}, x.options());
    EQUICALC_DISPATCH(x.scalar_type(), "tensor_convolution", [&] {
        for_chunks<scalar_t>(
            lengths, y, segments, starts, Tensor(), senders, [&](auto &chunk, auto &arrays) {
                for_paths<scalar_t>(plan, chunk, arrays, [&](const auto &coupling, int64_t p) {
                    auto path = plan.tensor_path<scalar_t>(p);
                    const auto block = input_of(in_blocks, plan.path(p, kInOffset));
                    path.x = packed_block<const scalar_t>(packed.data_ptr<scalar_t>(), in_blocks,
                                                          block, n_total, Order::kBlocks);
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
                                            at::ArrayRef<double> segments) {
    const Plan plan{table, couplings, paths, groups, inputs};
    check_table(plan, segments);
    if (uses_groups(x)) {
        return tensor_backward_groups(grad.contiguous(), x.contiguous(), distance.contiguous(),
                                      harmonics.contiguous(), edge_index,
                                      {table, couplings, paths, groups, inputs, segments});
    }
    const auto in_blocks = plan.input_blocks(), out_blocks = plan.output_blocks();
    const int64_t n_total = x.size(0), n_local = grad.size(0), width = x.size(1);
    const Tensor receivers = edge_index.select(0, 0).contiguous();
    const auto [starts, order] = transpose_edges(edge_index.select(0, 1).contiguous(), n_total);
    const Tensor lengths = distance.contiguous(), y = harmonics.contiguous();
    const Tensor packed = pack(x.contiguous(), in_blocks, Order::kBlocks);
    const Tensor packed_grad = pack(grad.contiguous(), out_blocks, Order::kAtoms);
    Tensor dx = torch::zeros({n_total, width}, x.options());
    Tensor dr = torch::empty_like(lengths), dy = torch::empty_like(y);
    const int64_t n_harmonics = y.size(1), size = packed_size(in_blocks);
    // structured bindings cannot be captured
    const Tensor first_edges = starts, edges = order;
    EQUICALC_DISPATCH(x.scalar_type(), "tensor_convolution_backward", [&] {
        for_chunks<scalar_t>(
            lengths, y, segments, first_edges, edges, receivers, [&](auto &chunk, auto &arrays) {
                const int64_t n = chunk.n_atoms, n_edges = chunk.start[n];
                arrays.prepare_sums(chunk, plan.widest());
                scalar_t *by_x = arrays.zeros(n * size);
                for_paths<scalar_t>(plan, chunk, arrays, [&](const auto &coupling, int64_t p) {
                    auto path = plan.tensor_path<scalar_t>(p);
                    const auto block = input_of(in_blocks, plan.path(p, kInOffset));
                    path.x = packed_block<const scalar_t>(packed.data_ptr<scalar_t>(), in_blocks,
                                                          block, n_total, Order::kBlocks);
                    path.grad = packed_block<const scalar_t>(packed_grad.data_ptr<scalar_t>(),
                                                             out_blocks, p, n_local, Order::kAtoms);
                    path.grad_x = packed_block<scalar_t>(by_x, in_blocks, block, n, Order::kBlocks);
                    kernels::tensor_backward(coupling, path, chunk);
                });
                move_rows<false>(in_blocks, dx.data_ptr<scalar_t>() + chunk.first_atom * width,
                                 width, by_x, n, Order::kBlocks, 0, n);
                kernels::tensor_sum_lanes(chunk.sums, n_edges * (1 + n_harmonics));
                const int64_t *edge =
                    edges.data_ptr<int64_t>() + first_edges.data_ptr<int64_t>()[chunk.first_atom];
                for (int64_t k = 0; k < n_edges; ++k) {
                    const scalar_t *sums = chunk.sums + k * (1 + n_harmonics);
                    dr.data_ptr<scalar_t>()[edge[k]] = sums[0];
                    std::copy_n(sums + 1, n_harmonics,
                                dy.data_ptr<scalar_t>() + edge[k] * n_harmonics);
                }
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

using ForwardSignature = Tensor(const Tensor &, const Tensor &, const Tensor &, const Tensor &,
                                c10::SymInt, c10::SymInt, const Tensor &, const Tensor &,
                                const Tensor &, const Tensor &, const Tensor &,
                                at::ArrayRef<double>);
using BackwardSignature = std::tuple<Tensor, Tensor, Tensor>(
    const Tensor &, const Tensor &, const Tensor &, const Tensor &, const Tensor &, const Tensor &,
    const Tensor &, const Tensor &, const Tensor &, const Tensor &, at::ArrayRef<double>);

// Both ways go through the dispatcher, so that tracers see operators and not what is in them.
struct TensorConvolution : torch::autograd::Function<TensorConvolution> {
    static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &distance,
                          const Tensor &harmonics, const Tensor &edge_index, c10::SymInt n_local,
                          c10::SymInt width_out, const Tensor &table, const Tensor &couplings,
                          const Tensor &paths, const Tensor &groups, const Tensor &inputs,
                          const std::vector<double> &segments) {
        TORCH_CHECK(!table.requires_grad(),
                    "equicalc: the radial table of tensor_convolution is a constant; train with "
                    "TensorConvolution.with_weights");
        at::AutoDispatchBelowADInplaceOrView guard;
        context->save_for_backward(
            {x, distance, harmonics, edge_index, table, couplings, paths, groups, inputs});
        context->saved_data["segments"] = segments;
        static const auto op = c10::Dispatcher::singleton()
                                   .findSchemaOrThrow("equicalc::tensor_convolution", "")
                                   .typed<ForwardSignature>();
        return op.call(x, distance, harmonics, edge_index, n_local, width_out, table, couplings,
                       paths, groups, inputs, segments);
    }

    static variable_list backward(AutogradContext *context, const variable_list &grads) {
        TORCH_CHECK(!at::GradMode::is_enabled(),
                    "equicalc: tensor_convolution has first derivatives only (create_graph=True "
                    "was asked for); train with TensorConvolution.with_weights");
        const auto s = context->get_saved_variables();
        const auto segments = context->saved_data["segments"].toDoubleVector();
        static const auto op = c10::Dispatcher::singleton()
                                   .findSchemaOrThrow("equicalc::tensor_convolution_backward", "")
                                   .typed<BackwardSignature>();
        auto [dx, dr, dy] =
            op.call(grads[0], s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], segments);
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
                     const Tensor &groups, const Tensor &inputs, at::ArrayRef<double> segments) {
    return TensorConvolution::apply(x, distance, harmonics, edge_index, n_local, width_out, table,
                                    couplings, paths, groups, inputs, segments.vec());
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

EQUICALC_REGISTER(tensor_convolution, forward, CPU)
EQUICALC_REGISTER(tensor_convolution, forward, CUDA)
EQUICALC_REGISTER(tensor_convolution, forward_meta, Meta)
EQUICALC_REGISTER(tensor_convolution, with_autograd, Autograd)
EQUICALC_REGISTER(tensor_convolution_backward, backward, CPU)
EQUICALC_REGISTER(tensor_convolution_backward, backward, CUDA)
EQUICALC_REGISTER(tensor_convolution_backward, backward_meta, Meta)

}  // namespace equicalc
