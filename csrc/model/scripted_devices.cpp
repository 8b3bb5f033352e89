#include "model/scripted_devices.h"

#include <torch/csrc/jit/api/function_impl.h>
#include <torch/types.h>

#include <set>

namespace equicalc {
namespace {

class Answers {
  public:
    explicit Answers(torch::jit::Symbol question) : question_(question) {}

    // In functions that are called too, each once: which of them a file has is a matter of its
    // torch.
    void answer_no(torch::jit::Block *block) {
        for (torch::jit::Node *node : block->nodes()) {
            for (torch::jit::Block *inner : node->blocks()) {
                answer_no(inner);
            }
            if (node->kind() == question_) {
                const torch::jit::WithInsertPoint here(node);
                node->output()->replaceAllUsesWith(node->owningGraph()->insertConstant(false));
            } else if (node->kind() == torch::jit::prim::CallFunction) {
                torch::jit::Function *called =
                    node->input(0)->type()->expectRef<c10::FunctionType>().function();
                if (auto *graph_of = torch::jit::tryToGraphFunction(*called);
                    graph_of != nullptr && seen_.insert(called).second) {
                    answer_no(graph_of->graph()->block());
                }
            }
        }
    }

  private:
    torch::jit::Symbol question_;
    std::set<const torch::jit::Function *> seen_;
};

}  // namespace

void use_cuda_kernels(const torch::jit::Module &module) {
    Answers answers(torch::jit::Symbol::fromQualString("prim::is_cuda"));
    for (const torch::jit::Module &part : module.modules()) {
        for (const torch::jit::Method &method : part.get_methods()) {
            answers.answer_no(method.graph()->block());
        }
    }
}

}  // namespace equicalc
