// Neighbour graphs in float64: edges within the cutoff, forces and virials of edge gradients.
#include "equicalc.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>

namespace equicalc {
namespace {

// Work is split into blocks of fixed size, so results never depend on the number of threads.
constexpr int64_t kBlock = 16384;
constexpr const char *kOutOfRange = "an edge names an atom out of range";

void require(bool holds, const char *text) {
    if (!holds) {
        throw Error(std::string("equicalc: ") + text);
    }
}

torch::Tensor host_double(const torch::Tensor &tensor) {
    return tensor.to(torch::kCPU, torch::kFloat64).contiguous();
}

struct Candidates {
    const double *positions;
    const int64_t *receivers;
    const int64_t *senders;
    const int32_t *shifts;
    std::array<double, 9> cell;

    std::array<double, 3> vector(int64_t edge) const {
        const double *from = positions + 3 * receivers[edge];
        const double *to = positions + 3 * senders[edge];
        const int32_t *image = shifts + 3 * edge;
        std::array<double, 3> result;
        for (size_t x = 0; x < 3; ++x) {
            result[x] = (to[x] - from[x]) +
                        (image[0] * cell[x] + image[1] * cell[3 + x] + image[2] * cell[6 + x]);
        }
        return result;
    }
};

// Serial: some ten operations per edge against some ten thousand in the network.
template <typename Index>
void add_edges(const Index *receivers, const Index *senders, const torch::Tensor &vectors,
               const torch::Tensor &gradients, int64_t n_local, int64_t n_total,
               EdgeForces &result) {
    const double *r = vectors.data_ptr<double>(), *g = gradients.data_ptr<double>();
    double *force = result.forces.data_ptr<double>(), *total = result.virial.data_ptr<double>();
    double *of_atoms =
        result.atom_virials.defined() ? result.atom_virials.data_ptr<double>() : nullptr;
    std::fill_n(force, 3 * n_total, 0.0);
    std::fill_n(total, 9, 0.0);
    if (of_atoms != nullptr) {
        std::fill_n(of_atoms, 9 * n_local, 0.0);
    }
    const int64_t count = vectors.size(0);
    for (int64_t e = 0; e < count;) {
        const int64_t i = receivers[e];
        require(i >= 0 && i < n_local, kOutOfRange);
        double pull[3] = {}, stress[9] = {};  // of all edges of this receiver
        for (; e < count && receivers[e] == i; ++e) {
            const int64_t j = senders[e];
            require(j >= 0 && j < n_total, kOutOfRange);
            for (int64_t x = 0; x < 3; ++x) {
                pull[x] += g[3 * e + x];
                force[3 * j + x] -= g[3 * e + x];
                for (int64_t y = 0; y < 3; ++y) {
                    stress[3 * x + y] -= r[3 * e + x] * g[3 * e + y];
                }
            }
        }
        for (int64_t x = 0; x < 3; ++x) {
            force[3 * i + x] += pull[x];
        }
        for (int64_t k = 0; k < 9; ++k) {
            total[k] += stress[k];
            if (of_atoms != nullptr) {
                of_atoms[9 * i + k] += stress[k];
            }
        }
    }
}

}  // namespace

Edges select_edges(const torch::Tensor &positions, const torch::Tensor &cell,
                   const torch::Tensor &candidates, const torch::Tensor &shifts, double cutoff) {
    require(positions.dim() == 2 && positions.size(1) == 3, "positions must be [n, 3]");
    require(cell.dim() == 2 && cell.size(0) == 3 && cell.size(1) == 3, "cell must be [3, 3]");
    require(candidates.dim() == 2 && candidates.size(0) == 2 &&
                candidates.scalar_type() == torch::kInt64 && candidates.is_contiguous(),
            "candidates must be contiguous int64 [2, M]");
    require(shifts.dim() == 2 && shifts.size(0) == candidates.size(1) && shifts.size(1) == 3 &&
                shifts.scalar_type() == torch::kInt32 && shifts.is_contiguous(),
            "shifts must be contiguous int32 [M, 3]");
    const torch::Tensor points = host_double(positions);
    const torch::Tensor box = host_double(cell);
    const int64_t count = candidates.size(1);
    Candidates list{points.data_ptr<double>(),
                    candidates.data_ptr<int64_t>(),
                    candidates.data_ptr<int64_t>() + count,
                    shifts.data_ptr<int32_t>(),
                    {}};
    std::copy_n(box.data_ptr<double>(), 9, list.cell.begin());

    // Pass 1: vectors, and which of a block to keep. Pass 2: copy these to their places.
    const int64_t n_blocks = (count + kBlock - 1) / kBlock;
    std::vector<double> vectors(static_cast<size_t>(3 * count));
    std::vector<int64_t> kept(static_cast<size_t>(count));
    std::vector<int64_t> offsets(static_cast<size_t>(n_blocks) + 1, 0);
    const double cutoff2 = cutoff * cutoff;
    at::parallel_for(0, n_blocks, 1, [&](int64_t first, int64_t last) {
        for (int64_t block = first; block < last; ++block) {
            int64_t *to = kept.data() + block * kBlock;
            int64_t n_kept = 0;
            for (int64_t e = block * kBlock; e < std::min(count, (block + 1) * kBlock); ++e) {
                const std::array<double, 3> r = list.vector(e);
                std::copy(r.begin(), r.end(), vectors.begin() + 3 * e);
                to[n_kept] = e;  // written over by the next one if this is too long
                n_kept += r[0] * r[0] + r[1] * r[1] + r[2] * r[2] < cutoff2 ? 1 : 0;
            }
            offsets[static_cast<size_t>(block) + 1] = n_kept;
        }
    });
    for (size_t block = 0; block < static_cast<size_t>(n_blocks); ++block) {
        offsets[block + 1] += offsets[block];
    }
    const int64_t n_edges = offsets.back();
    Edges edges{torch::empty({2, n_edges}, torch::kInt64),
                torch::empty({n_edges, 3}, torch::kFloat64)};
    int64_t *receivers = edges.index.data_ptr<int64_t>(), *senders = receivers + n_edges;
    double *out_vectors = edges.vectors.data_ptr<double>();
    at::parallel_for(0, n_blocks, 1, [&](int64_t first, int64_t last) {
        for (int64_t block = first; block < last; ++block) {
            const int64_t *from = kept.data() + block * kBlock;
            const int64_t begin = offsets[static_cast<size_t>(block)];
            for (int64_t k = begin; k < offsets[static_cast<size_t>(block) + 1]; ++k) {
                const int64_t e = from[k - begin];
                receivers[k] = list.receivers[e];
                senders[k] = list.senders[e];
                std::copy_n(vectors.data() + 3 * e, 3, out_vectors + 3 * k);
            }
        }
    });
    return edges;
}

EdgeForces EdgeScatter::sum(const Edges &edges, const torch::Tensor &edge_gradients,
                            int64_t n_local, int64_t n_total, bool with_atom_virials) {
    const int64_t count = edges.index.size(1);
    require(
        edge_gradients.dim() == 2 && edge_gradients.size(0) == count && edge_gradients.size(1) == 3,
        "edge gradients must be [E, 3], one row per edge");
    EdgeForces result{forces_.get({n_total, 3}, torch::kFloat64),
                      torch::empty({3, 3}, torch::kFloat64), torch::Tensor()};
    if (with_atom_virials) {
        result.atom_virials = atom_virials_.get({n_local, 3, 3}, torch::kFloat64);
    }
    const torch::Tensor vectors = host_double(edges.vectors);
    const torch::Tensor gradients = host_double(edge_gradients);
    const auto scatter = [&](auto number) {
        typedef decltype(number) Index;
        const torch::Tensor receivers = edges.index.select(0, 0).contiguous();
        const torch::Tensor senders = edges.index.select(0, 1).contiguous();
        add_edges(receivers.data_ptr<Index>(), senders.data_ptr<Index>(), vectors, gradients,
                  n_local, n_total, result);
    };
    if (edges.index.scalar_type() == torch::kInt32) {
        scatter(int32_t());
    } else {
        scatter(int64_t());
    }
    return result;
}

}  // namespace equicalc
