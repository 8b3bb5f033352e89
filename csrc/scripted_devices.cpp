#include "scripted_devices.h"

namespace equicalc {
namespace {

void answer_no(torch::jit::Block *block, const torch::jit::Symbol &question) {
    for (torch::jit::Node *node : block->nodes()) {
        for (torch::jit::Block *inner : node->blocks()) {
            answer_no(inner, question);
        }
        if (node->kind() == question) {
            const torch::jit::WithInsertPoint here(node);
            node->output()->replaceAllUsesWith(node->owningGraph()->insertConstant(false));
        }
    }
}

}  // namespace

void use_cuda_kernels(const torch::jit::Module &module) {
    static const auto question = torch::jit::Symbol::fromQualString("prim::is_cuda");
    for (const torch::jit::Module &part : module.modules()) {
        for (const torch::jit::Method &method : part.get_methods()) {
            answer_no(method.graph()->block(), question);
        }
    }
}

}  // namespace equicalc
