// equicalc::species_linear: equicalc::irreps_linear with one set of matrices for each element, on
// CPUs. What it does with the atoms of each element is inside, so that tracers of torch.export need
// not know how many there are.
#include "operators/fused_ops.h"
#include "operators/irreps_linear.h"

namespace equicalc {
namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char *kTrainThrough = "train through equicalc.nn.gated_network.SpeciesLinear";

// Atoms by element: a list for each.
std::vector<Tensor> atoms_of_elements(const Tensor &species, int64_t n_elements) {
    const Tensor kinds = species.contiguous();
    const int64_t *kind = kinds.const_data_ptr<int64_t>();
    std::vector<std::vector<int64_t>> lists(n_elements);
    for (int64_t atom = 0; atom < kinds.numel(); ++atom) {
        TORCH_CHECK(kind[atom] >= 0 && kind[atom] < n_elements,
                    "equicalc: species_linear has matrices for ", n_elements,
                    " elements, found the element ", kind[atom]);
        lists[kind[atom]].push_back(atom);
    }
    std::vector<Tensor> result;
    for (const auto &list : lists) {
        result.push_back(torch::tensor(list, torch::kInt64));
    }
    return result;
}

// `backward`: the transposed matrices, which are made here. They are small beside the products, and
// large in a file.
Tensor mixed_by_element(const Tensor &x, const Tensor &species, const Tensor &weights,
                        const Tensor &table, int64_t width, bool backward) {
    check_like(weights, x, "weights");
    TORCH_CHECK(
        x.dim() == 2 && species.dim() == 1 && species.size(0) == x.size(0) && weights.dim() == 2,
        "equicalc: species_linear takes features [n, width], species [n] and weights [S, "
        "K], found ",
        x.sizes(), ", ", species.sizes(), " and ", weights.sizes());
    const auto pairs = read_pairs(table, backward);
    const auto lists = atoms_of_elements(species, weights.size(0));
    Tensor out = torch::empty({x.size(0), width}, x.options());
    for (size_t element = 0; element < lists.size(); ++element) {
        const Tensor &atoms = lists[element];
        if (atoms.numel() == 0) {
            continue;
        }
        const Tensor weight = weights[static_cast<int64_t>(element)].contiguous();
        const Tensor matrices = backward ? transpose(weight, table) : weight;
        out.index_copy_(0, atoms,
                        mixed(x.index_select(0, atoms), matrices, pairs, Tensor(), width));
    }
    return out;
}

Tensor species_linear_forward(const Tensor &x, const Tensor &species, const Tensor &weights,
                              const Tensor &table, int64_t width) {
    return mixed_by_element(x, species, weights, table, width, false);
}

Tensor species_linear_backward(const Tensor &grad, const Tensor &species, const Tensor &weights,
                               const Tensor &table, int64_t width) {
    return mixed_by_element(grad, species, weights, table, width, true);
}

// Both ways go through the dispatcher, where tracers of torch.export see one operator.
struct SpeciesLinear : torch::autograd::Function<SpeciesLinear> {
    static Tensor forward(AutogradContext *context, const Tensor &x, const Tensor &species,
                          const Tensor &weights, const Tensor &table, int64_t width) {
        static const auto op =
            operator_of<decltype(species_linear_forward)>("equicalc::species_linear");
        at::AutoDispatchBelowADInplaceOrView guard;
        context->save_for_backward({species, weights, table});
        context->saved_data["width"] = x.sym_size(1).guard_int(__FILE__, __LINE__);
        return op.call(x, species, weights, table, width);
    }

    static variable_list backward(AutogradContext *context, const variable_list &grads) {
        refuse_second_derivative("species_linear", kTrainThrough);
        static const auto op =
            operator_of<decltype(species_linear_backward)>("equicalc::species_linear_backward");
        const auto saved = context->get_saved_variables();
        variable_list result(5);
        result[0] =
            op.call(grads[0], saved[0], saved[1], saved[2], context->saved_data["width"].toInt());
        return result;
    }
};

Tensor species_linear(const Tensor &x, const Tensor &species, const Tensor &weights,
                      const Tensor &table, int64_t width) {
    TORCH_CHECK(!weights.requires_grad(),
                "equicalc: species_linear has no gradient of its weights; ", kTrainThrough);
    return SpeciesLinear::apply(x, species, weights, table, width);
}

Tensor species_linear_meta(const Tensor &x, const Tensor &, const Tensor &, const Tensor &,
                           int64_t width) {
    return at::empty_symint({x.sym_size(0), width}, x.options());
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(equicalc, library) {
    const std::string inputs = "Tensor species, Tensor weights, Tensor pairs, int width) -> Tensor";
    library.def(("species_linear(Tensor x, " + inputs).c_str());
    library.def(("species_linear_backward(Tensor grad, " + inputs).c_str());
}

EQUICALC_REGISTER(species_linear, species_linear_forward, CPU)
EQUICALC_REGISTER(species_linear, species_linear, AutogradCPU)
EQUICALC_REGISTER(species_linear, species_linear_meta, Meta)
EQUICALC_REGISTER(species_linear_backward, species_linear_backward, CPU)
EQUICALC_REGISTER(species_linear_backward, species_linear_meta, Meta)

}  // namespace equicalc
