#include "model/recorded_steps.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include "cuda/edges.h"
#include "cuda/pairs.h"
#include "operators/fused_ops.h"
#include "model/network.h"

namespace equicalc {
namespace {

using torch::Tensor;

// Steps of one size in a row before they are recorded, which takes longer than a step.
constexpr int64_t kAlike = 3;
// With more edges than these the device is busy longer than the host that launches its work.
constexpr int64_t kMostEdges = 600000;
// Room for this part more than there is at first; with more than the other part of the edges unused
// in so many steps in a row there will be less room.
constexpr double kRoom = 0.05, kMostUnused = 0.2;
constexpr int64_t kSparse = 20;
constexpr int64_t kBlock = 256;
// Of an atom that nobody sees, at first: as many as others have.
constexpr int64_t kUnseenEdges = 24;

// Of a step that has no room, and of one that is recorded: sums of the same numbers in another
// order, relative to the largest or to 1 eV, 1 eV/angstrom.
double tolerance(torch::ScalarType type) { return type == torch::kFloat64 ? 1e-9 : 1e-4; }

int64_t room_for(int64_t size) {
    const auto wanted = static_cast<int64_t>((1.0 + kRoom) * static_cast<double>(size));
    return (wanted + kBlock) / kBlock * kBlock;
}

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

Tensor on_cpu(const Tensor &tensor) { return tensor.detach().to(torch::kCPU, torch::kFloat64); }

}  // namespace

RecordedSteps::RecordedSteps(Network network, const LoadOptions &options, double cutoff)
    : network_(std::move(network)), options_(options), cutoff_(cutoff) {}

void RecordedSteps::set_pairs(const Pairs &pairs) {
    pairs_ = pairs;
    is_stale_ = true;
}

bool RecordedSteps::takes(const Positions &positions, int64_t n_edges) {
    const int64_t n_atoms = pairs_.n_local, n_points = positions.points.size(0);
    if (is_refused_ || pairs_.rows.size(1) == 0 || n_edges > kMostEdges ||
        pairs_.species.size(0) != n_atoms) {
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
    if (!forward_ || pairs_.rows.size(1) > rows_.size(1) || 3 * n_points + 9 > input_.numel()) {
        record(positions);
    }
    return !is_refused_;
}

Tensor RecordedSteps::host_memory(int64_t size) const {
    return torch::zeros({size},
                        torch::dtype(torch::kFloat64).pinned_memory(options_.device.is_cuda()));
}

void RecordedSteps::make_room(int64_t n_points, int64_t n_edges) {
    const auto on_device = torch::TensorOptions().device(options_.device);
    const auto integers = on_device.dtype(torch::kInt64), small = on_device.dtype(torch::kInt32);
    const auto numbers = on_device.dtype(options_.dtype), exact = on_device.dtype(torch::kFloat64);
    const int64_t pairs = room_for(pairs_.rows.size(1)), room = room_for(n_edges);
    n_unseen_ = (room - n_edges) / kUnseenEdges + 1;
    const int64_t n_rows = n_atoms_ + n_unseen_, n_input = 9 + 3 * room_for(n_points);
    species_ = torch::zeros({n_rows}, integers);
    n_pairs_ = torch::zeros({1}, integers);
    rows_ = torch::zeros({2, pairs}, integers);
    points_ = torch::zeros({2, pairs}, integers);
    shifts_ = torch::zeros({pairs, 3}, small);
    rank_ = torch::zeros({pairs}, integers);
    order_ = torch::zeros({pairs}, integers);
    pair_starts_ = torch::zeros({2, n_atoms_ + 1}, integers);
    pair_vectors_ = torch::empty({pairs, 3}, exact);
    flags_ = torch::empty({2 * pairs}, small);
    counts_ = torch::empty({2 * pairs}, small);
    n_found_ = torch::zeros({1}, integers);
    index_ = torch::empty({2, room}, integers);
    vectors_ = torch::empty({room, 3}, numbers).requires_grad_(true);
    exact_vectors_ = torch::empty({room, 3}, exact);
    starts_ = torch::empty({n_rows + 1}, integers);
    sender_starts_ = torch::empty({n_rows + 1}, integers);
    sender_edges_ = torch::empty({room}, integers);
    staged_ = host_memory(n_input);
    input_ = torch::empty({n_input}, exact);
    atom_virials_ = torch::empty({n_atoms_, 3, 3}, exact);
    forces_ = torch::empty({3 * n_atoms_ + 9}, exact);
    host_forces_ = host_memory(3 * n_atoms_ + 9);
}

// Of pairs that there is room for.
void RecordedSteps::copy_pairs() {
    const int64_t n = pairs_.rows.size(1);
    const auto to = [&](const Tensor &tensor) { return tensor.to(options_.device); };
    const Tensor rows = to(pairs_.rows).to(torch::kInt64);
    species_.narrow(0, 0, n_atoms_).copy_(pairs_.species);
    n_pairs_.fill_(n);
    rows_.narrow(1, 0, n).copy_(rows);
    points_.narrow(1, 0, n).copy_(pairs_.points.defined() ? to(pairs_.points) : rows);
    if (pairs_.shifts.defined()) {
        shifts_.narrow(0, 0, n).copy_(to(pairs_.shifts));
    } else {
        shifts_.zero_();
    }
    const Tensor order = torch::argsort(rows.select(0, 1), /*stable=*/true, 0, false);
    order_.narrow(0, 0, n).copy_(order);
    rank_.narrow(0, 0, n).copy_(
        torch::empty_like(order).index_copy_(0, order, torch::arange(n, order.options())));
    const Tensor borders = torch::arange(n_atoms_ + 1, order.options());
    const Tensor senders = rows.select(0, 1).index_select(0, order);
    pair_starts_.select(0, 0).copy_(torch::searchsorted(rows.select(0, 0).contiguous(), borders));
    pair_starts_.select(0, 1).copy_(torch::searchsorted(senders, borders));
    is_stale_ = false;
}

void RecordedSteps::send(const Positions &positions) {
    if (is_stale_) {
        copy_pairs();
    }
    double *staged = staged_.data_ptr<double>();
    const Tensor points = positions.points.contiguous();
    std::copy_n(points.const_data_ptr<double>(), points.numel(), staged + 9);
    if (positions.cell.defined()) {
        const Tensor cell = positions.cell.contiguous();
        std::copy_n(cell.const_data_ptr<double>(), 9, staged);
    }
}

void RecordedSteps::find_edges() {
    const int64_t pairs = rows_.size(1), room = vectors_.size(0), n_rows = n_atoms_ + n_unseen_;
    input_.copy_(staged_, /*non_blocking=*/true);
    const auto *cell = input_.const_data_ptr<double>();
    const auto *n_pairs = n_pairs_.const_data_ptr<int64_t>();
    run_groups(input_,
               groups::PairFlags{pairs, cutoff_, cell + 9, cell, n_pairs,
                                 points_.const_data_ptr<int64_t>(),
                                 shifts_.const_data_ptr<int32_t>(), rank_.const_data_ptr<int64_t>(),
                                 pair_vectors_.data_ptr<double>(), flags_.data_ptr<int32_t>()},
               pairs);
    at::cumsum_out(counts_, flags_, 0, torch::kInt32);
    const auto *starts = pair_starts_.const_data_ptr<int64_t>();
    EQUICALC_DISPATCH(options_.dtype, "find_edges", [&] {
        const groups::ChosenEdges<scalar_t> edges{pairs,
                                                  room,
                                                  n_atoms_,
                                                  n_unseen_,
                                                  cutoff_,
                                                  n_pairs,
                                                  rows_.const_data_ptr<int64_t>(),
                                                  order_.const_data_ptr<int64_t>(),
                                                  starts,
                                                  starts + n_atoms_ + 1,
                                                  counts_.const_data_ptr<int32_t>(),
                                                  pair_vectors_.const_data_ptr<double>(),
                                                  index_.data_ptr<int64_t>(),
                                                  vectors_.data_ptr<scalar_t>(),
                                                  exact_vectors_.data_ptr<double>(),
                                                  starts_.data_ptr<int64_t>(),
                                                  sender_starts_.data_ptr<int64_t>(),
                                                  sender_edges_.data_ptr<int64_t>(),
                                                  n_found_.data_ptr<int64_t>()};
        run_groups(input_, edges, edges.n_items());
    });
    remember_rows(index_.select(0, 0), n_rows, starts_);
    remember_senders(index_.select(0, 1), n_rows, sender_starts_, sender_edges_);
}

void RecordedSteps::evaluate() {
    {
        const torch::NoGradGuard no_grad;
        forget_rows();
        find_edges();
    }
    const torch::AutoGradMode with_grad(true);
    std::tie(energies_, variables_) = network_(species_, vectors_, index_, species_.size(0));
    results_ = torch::cat({n_found_.to(torch::kFloat64), energies().detach().to(torch::kFloat64),
                           variables().detach().to(torch::kFloat64).flatten()});
    if (!host_results_.defined() || host_results_.numel() != results_.numel()) {
        host_results_ = host_memory(results_.numel());
    }
    host_results_.copy_(results_, /*non_blocking=*/true);
}

void RecordedSteps::differentiate() {
    torch::autograd::variable_list outputs{energies_}, weights{energy_weights_};
    if (variables_.requires_grad() && variables_.numel() > 0) {
        input_weights_.copy_(staged_weights_, /*non_blocking=*/true);
        variable_weights_.narrow(0, 0, n_atoms_).copy_(input_weights_);
        outputs.push_back(variables_);
        weights.push_back(variable_weights_);
    }
    gradient_ = torch::autograd::grad(outputs, {vectors_}, weights, true).at(0).contiguous();
    const torch::NoGradGuard no_grad;
    EQUICALC_DISPATCH(options_.dtype, "differentiate", [&] {
        run_groups(
            input_,
            groups::AtomForces<scalar_t>{
                n_atoms_, starts_.const_data_ptr<int64_t>(),
                sender_starts_.const_data_ptr<int64_t>(), sender_edges_.const_data_ptr<int64_t>(),
                exact_vectors_.const_data_ptr<double>(), gradient_.const_data_ptr<scalar_t>(),
                forces_.data_ptr<double>(), atom_virials_.data_ptr<double>()},
            n_atoms_);
    });
    Tensor virial = forces_.narrow(0, 3 * n_atoms_, 9).view({3, 3});
    at::sum_out(virial, atom_virials_, {0});
    host_forces_.copy_(forces_, /*non_blocking=*/true);
}

// Two recordings and what their first steps find; a network that waits for the device in the
// middle, or whose atoms know how many others there are, is evaluated without from now on.
void RecordedSteps::record(const Positions &positions) {
    forward_ = backward_ = nullptr;
    n_sparse_ = 0;
    {
        const torch::NoGradGuard no_grad;
        make_room(positions.points.size(0), 0);
        is_stale_ = true;
        send(positions);
        find_edges();
        make_room(positions.points.size(0), n_found_.item<int64_t>());
        is_stale_ = true;
        send(positions);
        forget_rows();
    }
    const auto number = options_.device.index();
    try {
        forward_ = Recorder::record(number, nullptr, [this] { evaluate(); });
        energy_weights_ = torch::ones_like(energies_).detach();
        variable_weights_ = torch::zeros_like(variables_).detach();
        staged_weights_ =
            host_memory(n_atoms_ * variables_.size(1)).view({n_atoms_, variables_.size(1)});
        input_weights_ = staged_weights_.to(options_.device);
        forward_->repeat();
        backward_ = Recorder::record(number, forward_, [this] { differentiate(); });
        run_forward(positions);
        check_room();
    } catch (const std::exception &error) {
        TORCH_WARN(
            "equicalc: steps of this network are not recorded, which makes small systems "
            "slower: ",
            last_line(plain_text(error)));
        is_refused_ = true;
        forward_ = backward_ = nullptr;
        energies_ = variables_ = results_ = gradient_ = Tensor();
    }
    forget_rows();
}

// Of the edges of the last forward without room, against those with it.
void RecordedSteps::check_room() {
    staged_weights_.zero_();
    backward_->repeat();
    wait();
    const Tensor gradient = on_cpu(gradient_.narrow(0, 0, n_edges_));
    const Tensor found_energies = on_cpu(energies()), found_variables = on_cpu(variables());
    forget_rows();
    const torch::AutoGradMode with_grad(true);
    const Tensor vectors = vectors_.detach().narrow(0, 0, n_edges_).clone().requires_grad_(true);
    const Tensor index = index_.narrow(1, 0, n_edges_).contiguous();
    const auto [energies, variables] =
        network_(species_.narrow(0, 0, n_atoms_), vectors, index, n_atoms_);
    const Tensor expected =
        torch::autograd::grad({energies}, {vectors}, {torch::ones_like(energies)}).at(0);
    const double limit = tolerance(options_.dtype);
    TORCH_CHECK(are_close(found_energies, on_cpu(energies), limit) &&
                    are_close(found_variables, on_cpu(variables), limit) &&
                    are_close(gradient, on_cpu(expected), limit),
                "atoms without neighbours change the results of others");
}

void RecordedSteps::wait() const {
    if (options_.device.is_cuda()) {
        const auto *guard = c10::impl::getDeviceGuardImpl(c10::DeviceType::CUDA);
        guard->getStream(input_.device()).synchronize();
    }
}

// Number of edges, of which there may be more than room.
int64_t RecordedSteps::run_forward(const Positions &positions) {
    send(positions);
    forward_->repeat();
    if (variables_.numel() == 0) {  // nothing to be known in between
        backward_->repeat();
    }
    wait();
    forget_rows();  // of the edges before, which had the same memory
    n_edges_ = static_cast<int64_t>(host_results_.const_data_ptr<double>()[0]);
    return n_edges_;
}

std::optional<ForwardResult> RecordedSteps::forward(const Positions &positions) {
    const int64_t n_edges = run_forward(positions), room = vectors_.size(0);
    n_sparse_ = n_edges < static_cast<int64_t>((1.0 - kMostUnused) * room) ? n_sparse_ + 1 : 0;
    if (n_edges > room || n_sparse_ >= kSparse) {
        record(positions);
        if (is_refused_) {
            return std::nullopt;
        }
        run_forward(positions);
    }
    const int64_t columns = variables_.size(1);
    return ForwardResult{host_results_.narrow(0, 1, n_atoms_).clone(),
                         host_results_.narrow(0, 1 + n_atoms_, n_atoms_ * columns)
                             .view({n_atoms_, columns})
                             .clone()};
}

EdgeForces RecordedSteps::backward(const Tensor &gradient, bool with_atom_virials) {
    const torch::NoGradGuard no_grad;
    if (variables_.numel() > 0) {
        if (gradient.defined()) {
            TORCH_CHECK(gradient.sizes() == staged_weights_.sizes(),
                        "the gradient of the charge variables has the shape ", gradient.sizes(),
                        ", expected ", staged_weights_.sizes());
            staged_weights_.copy_(gradient);
        } else {
            staged_weights_.zero_();
        }
        backward_->repeat();
        wait();
    }
    return {host_forces_.narrow(0, 0, 3 * n_atoms_).view({n_atoms_, 3}).clone(),
            host_forces_.narrow(0, 3 * n_atoms_, 9).view({3, 3}).clone(),
            with_atom_virials ? atom_virials_.to(torch::kCPU) : Tensor()};
}

Tensor RecordedSteps::variable_gradient(const Tensor &gradient) const {
    if (!variables_.requires_grad()) {  // charges may be constant
        return torch::zeros_like(exact_vectors_.narrow(0, 0, n_edges_));
    }
    const Tensor weights = gradient.to(variables_.options().requires_grad(false));
    const auto found =
        torch::autograd::grad({variables()}, {vectors_}, {weights}, /*retain_graph=*/true);
    return found.at(0).narrow(0, 0, n_edges_).to(torch::kFloat64);
}

Graph RecordedSteps::graph() const {
    return {species_.narrow(0, 0, n_atoms_), index_.narrow(1, 0, n_edges_).contiguous(),
            exact_vectors_.narrow(0, 0, n_edges_), n_atoms_};
}

}  // namespace equicalc
