#include "recorded_network.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include "cuda/graph.h"
#include "fused_ops.h"
#include "network.h"

namespace equicalc {
namespace {

using torch::Tensor;

// Graphs of one size in a row before they are recorded, which takes longer than a step.
constexpr int64_t kAlike = 3;
// With more edges than these the device is busy longer than the host that launches its work.
constexpr int64_t kMostEdges = 600000;
// Room for this part more than the first graph has; with more than the other part unused in so
// many steps in a row there will be less room.
constexpr double kRoom = 0.05, kMostUnused = 0.2;
constexpr int64_t kSparse = 20;
constexpr int64_t kEdgeBlock = 256;
// Of an atom that nobody sees, at first: as many as others have.
constexpr int64_t kUnseenEdges = 24;

// Of a step that has no room, and of one that is recorded: sums of the same numbers in another
// order, relative to the largest or to 1 eV, 1 eV/angstrom.
double tolerance(torch::ScalarType type) { return type == torch::kFloat64 ? 1e-9 : 1e-4; }

// The reason at the end of a traceback of TorchScript.
std::string last_line(const std::string &text) {
    const auto start = text.rfind("RuntimeError: ");
    const std::string found = start == std::string::npos ? text : text.substr(start);
    return found.substr(0, found.find('\n'));
}

bool are_close(const Tensor &a, const Tensor &b, double tolerance) {
    return a.numel() == 0 || (a - b).abs().max().item<double>() <=
                                 tolerance * std::max(1.0, b.abs().max().item<double>());
}

}  // namespace

RecordedNetwork::RecordedNetwork(Network network, const LoadOptions &options, double cutoff)
    : network_(std::move(network)), options_(options), cutoff_(cutoff) {}

bool RecordedNetwork::takes(const Graph &graph) {
    const int64_t n_atoms = graph.n_local, n_edges = graph.edge_vectors.size(0);
    if (is_refused_ || n_edges == 0 || n_edges > kMostEdges || graph.species.size(0) != n_atoms) {
        n_alike_ = 0;
        return false;
    }
    if (n_atoms != n_atoms_) {
        n_atoms_ = n_atoms;
        n_alike_ = 0;
        forward_ = backward_ = nullptr;
    }
    if (++n_alike_ < kAlike) {
        return false;
    }
    const int64_t room = forward_ ? vectors_.size(0) : 0;
    n_sparse_ = n_edges < static_cast<int64_t>((1.0 - kMostUnused) * room) ? n_sparse_ + 1 : 0;
    if (n_edges > room || n_sparse_ >= kSparse) {
        n_sparse_ = 0;
        record(graph);
    }
    return !is_refused_;
}

void RecordedNetwork::make_room(const Graph &graph) {
    const auto wanted = static_cast<int64_t>((1.0 + kRoom) * graph.edge_vectors.size(0));
    const int64_t room = (wanted + kEdgeBlock) / kEdgeBlock * kEdgeBlock;
    const auto integers = torch::TensorOptions(torch::kInt64).device(options_.device);
    const auto numbers = torch::TensorOptions(options_.dtype).device(options_.device);
    n_unseen_ = (room - graph.edge_vectors.size(0)) / kUnseenEdges + 1;
    species_ = torch::zeros({n_atoms_ + n_unseen_}, integers);
    index_ = torch::empty({2, room}, integers);
    bad_ = torch::zeros({1}, integers);
    vectors_ = torch::empty({room, 3}, numbers).requires_grad_(true);
}

void RecordedNetwork::take_edges(const Graph &graph) {
    const torch::NoGradGuard no_grad;
    n_edges_ = graph.edge_vectors.size(0);
    species_.narrow(0, 0, n_atoms_).copy_(graph.species);
    const Tensor index = graph.edge_index.to(options_.device, torch::kInt64).contiguous();
    const Tensor vectors = graph.edge_vectors.detach().to(options_.device).contiguous();
    const int64_t room = vectors_.size(0);
    bad_.zero_();
    run_groups(
        vectors_,
        groups::EdgeCheck{n_edges_, n_atoms_, index.data_ptr<int64_t>(), bad_.data_ptr<int64_t>()},
        n_edges_);
    EQUICALC_DISPATCH(options_.dtype, "take_edges", [&] {
        run_groups(vectors_,
                   groups::PaddedEdges<scalar_t>{
                       n_edges_, room, n_atoms_, n_unseen_, cutoff_, index.data_ptr<int64_t>(),
                       vectors.data_ptr<double>(), bad_.data_ptr<int64_t>(),
                       index_.data_ptr<int64_t>(), vectors_.data_ptr<scalar_t>()},
                   room);
    });
}

// Two recordings and what their first steps find; a network that waits for the device in the
// middle, or whose atoms know how many others there are, is evaluated without from now on.
void RecordedNetwork::record(const Graph &graph) {
    forward_ = backward_ = nullptr;
    make_room(graph);
    take_edges(graph);
    check_edges(bad_.item<int64_t>());
    try {
        const torch::AutoGradMode with_grad(true);
        forward_ = Recorder::record(options_.device.index(), nullptr, [this] {
            forget_rows();  // they belong to the recording
            std::tie(energies_, variables_) =
                network_(species_, vectors_, index_, species_.size(0));
            packed_ = torch::cat({energies().detach().to(torch::kFloat64),
                                  variables().detach().to(torch::kFloat64).flatten(),
                                  bad_.to(torch::kFloat64)});
        });
        energy_weights_ = torch::ones_like(energies_).detach();
        variable_weights_ = torch::zeros_like(variables_).detach();
        forward_->repeat();
        backward_ = Recorder::record(options_.device.index(), forward_, [this] {
            forget_rows();
            torch::autograd::variable_list outputs{energies_}, weights{energy_weights_};
            if (variables_.requires_grad() && variables_.numel() > 0) {
                outputs.push_back(variables_);
                weights.push_back(variable_weights_);
            }
            gradient_ = torch::autograd::grad(outputs, {vectors_}, weights, true).at(0);
        });
        check_room(graph);
    } catch (const std::exception &error) {
        TORCH_WARN(
            "equicalc: steps of this network are not recorded, which makes small systems "
            "slower: ",
            last_line(plain_text(error)));
        is_refused_ = true;
        forward_ = backward_ = nullptr;
        energies_ = variables_ = packed_ = gradient_ = Tensor();
    }
    forget_rows();
}

void RecordedNetwork::check_room(const Graph &graph) {
    const ForwardResult found = forward(graph);
    const Tensor gradient = backward({});
    const Tensor vectors = graph.edge_vectors.detach()
                               .to(options_.device, options_.dtype, false, true)
                               .requires_grad_(true);
    const Tensor index = graph.edge_index.to(options_.device, torch::kInt64).contiguous();
    const auto [energies, variables] =
        network_(species_.narrow(0, 0, n_atoms_), vectors, index, n_atoms_);
    const Tensor expected =
        torch::autograd::grad({energies}, {vectors}, {torch::ones_like(energies)}).at(0);
    const auto on_host = [](const Tensor &tensor) {
        return tensor.detach().to(torch::kCPU, torch::kFloat64);
    };
    const double limit = tolerance(options_.dtype);
    TORCH_CHECK(are_close(found.energies, on_host(energies), limit) &&
                    are_close(found.variables, on_host(variables), limit) &&
                    are_close(on_host(gradient), on_host(expected), limit),
                "atoms without neighbours change the results of others");
}

// `bad`: one more than an edge that there cannot be, or zero.
void RecordedNetwork::check_edges(int64_t bad) const {
    TORCH_CHECK(bad == 0, "equicalc: edge_index must hold ascending receivers and senders below ",
                n_atoms_, ", which it does not at edge ", bad - 1);
}

ForwardResult RecordedNetwork::results() const {
    const Tensor packed = packed_.to(torch::kCPU);
    const int64_t columns = variables_.size(1);
    check_edges(static_cast<int64_t>(packed[packed.numel() - 1].item<double>()));
    return {packed.narrow(0, 0, n_atoms_).clone(),
            packed.narrow(0, n_atoms_, n_atoms_ * columns).view({n_atoms_, columns}).clone()};
}

ForwardResult RecordedNetwork::forward(const Graph &graph) {
    take_edges(graph);
    forward_->repeat();
    forget_rows();  // of the edges before, which had the same memory
    return results();
}

Tensor RecordedNetwork::backward(const Tensor &gradient) {
    const torch::NoGradGuard no_grad;
    if (gradient.defined()) {
        variable_weights_.narrow(0, 0, n_atoms_).copy_(gradient);
    } else {
        variable_weights_.zero_();
    }
    backward_->repeat();
    return gradient_.narrow(0, 0, n_edges_);
}

}  // namespace equicalc
