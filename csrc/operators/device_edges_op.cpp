// equicalc::edges_within and equicalc::edge_forces: what select_edges and EdgeScatter of
// graph.cpp are on the CPU, for graphs that stay on the device.
#include <tuple>

#include "cuda/edges.h"
#include "operators/fused_ops.h"

namespace equicalc {
namespace {

using torch::Tensor;

// The pairs [2, M] that are shorter than the cutoff, in their order, and their vectors [E, 3];
// points are where positions of receivers and senders are.
std::tuple<Tensor, Tensor> edges_within(const Tensor &positions, const Tensor &cell,
                                        const Tensor &rows, const Tensor &points,
                                        const Tensor &shifts, double cutoff) {
    TORCH_CHECK(positions.scalar_type() == torch::kFloat64 && positions.dim() == 2 &&
                    positions.size(1) == 3 && cell.scalar_type() == torch::kFloat64 &&
                    cell.numel() == 9,
                "equicalc: edges_within takes float64 positions [n, 3] and cell [3, 3], found ",
                positions.sizes(), " and ", cell.sizes());
    TORCH_CHECK(rows.scalar_type() == torch::kInt64 && rows.dim() == 2 && rows.size(0) == 2 &&
                    points.scalar_type() == torch::kInt64 && points.sizes() == rows.sizes() &&
                    shifts.scalar_type() == torch::kInt32 && shifts.dim() == 2 &&
                    shifts.size(0) == rows.size(1) && shifts.size(1) == 3,
                "equicalc: edges_within takes int64 rows and points [2, M] and int32 shifts [M, "
                "3], found ",
                rows.sizes(), ", ", points.sizes(), " and ", shifts.sizes());
    const Tensor places = positions.contiguous(), box = cell.contiguous();
    const Tensor ends = points.contiguous(), images = shifts.contiguous();
    const int64_t count = rows.size(1);
    Tensor vectors = torch::empty({count, 3}, places.options());
    Tensor is_edge = torch::empty({count}, places.options().dtype(torch::kBool));
    run_items(places,
              groups::PairVectors{cutoff, places.data_ptr<double>(), box.data_ptr<double>(),
                                  ends.data_ptr<int64_t>(), ends.data_ptr<int64_t>() + count,
                                  images.data_ptr<int32_t>(), vectors.data_ptr<double>(),
                                  is_edge.data_ptr<bool>()},
              count);
    const Tensor kept = is_edge.nonzero().flatten();
    return {rows.index_select(1, kept), vectors.index_select(0, kept)};
}

// Forces [n_total, 3], virial [3, 3] and virials of receivers [n_local, 3, 3] from dE/d(vectors).
std::tuple<Tensor, Tensor, Tensor> edge_forces(const Tensor &edge_index, const Tensor &edge_vectors,
                                               const Tensor &gradients, int64_t n_local,
                                               int64_t n_total) {
    check_like(gradients, edge_vectors, "gradients");
    TORCH_CHECK(edge_vectors.scalar_type() == torch::kFloat64 &&
                    edge_vectors.sizes() == gradients.sizes() && edge_vectors.dim() == 2 &&
                    edge_vectors.size(0) == edge_index.size(1) && edge_vectors.size(1) == 3,
                "equicalc: edge_forces takes float64 vectors and gradients [E, 3], found ",
                edge_vectors.sizes(), " and ", gradients.sizes(), " for ", edge_index.size(1),
                " edges");
    const Tensor vectors = edge_vectors.contiguous(), by_vectors = gradients.contiguous();
    const Tensor starts = row_starts(edge_index.select(0, 0).contiguous(), n_local);
    const auto senders = transpose_edges(edge_index.select(0, 1).contiguous(), n_total);
    Tensor forces = torch::empty({n_total, 3}, vectors.options());
    Tensor virials = torch::empty({n_local, 3, 3}, vectors.options());
    run_items(vectors,
              groups::AtomForces<double>{n_local, starts.data_ptr<int64_t>(),
                                         senders.first.data_ptr<int64_t>(),
                                         senders.second.data_ptr<int64_t>(),
                                         vectors.data_ptr<double>(), by_vectors.data_ptr<double>(),
                                         forces.data_ptr<double>(), virials.data_ptr<double>()},
              n_total);
    return {forces, virials.sum(0), virials};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(equicalc, library) {
    library.def(
        "edges_within(Tensor positions, Tensor cell, Tensor rows, Tensor points, Tensor shifts, "
        "float cutoff) -> (Tensor, Tensor)");
    library.def(
        "edge_forces(Tensor edge_index, Tensor edge_vectors, Tensor gradients, int n_local, "
        "int n_total) -> (Tensor, Tensor, Tensor)");
}

EQUICALC_REGISTER_KERNELS(edges_within, edges_within)
EQUICALC_REGISTER_KERNELS(edge_forces, edge_forces)

}  // namespace equicalc
