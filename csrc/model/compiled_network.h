// A network compiled ahead of time (model.pt2) behind the interface of direct evaluation.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "direct/network.h"

namespace torch::inductor {
class AOTIModelPackageLoader;
}

namespace equicalc::compiled {

// Whether an archive is a package of compiled programs.
bool is_package(const std::string &path);

// What model.pt says with attributes of its module.
ModelInfo read_info(const std::string &path);

// Weights for direct evaluation, which needs no program: of architectures that it knows, and where
// the package has them.
std::optional<direct::Parts> read_parts(const std::string &path);

// The program of one precision. Throws ModelFileError when it cannot run here: other versions,
// processors or devices than it was compiled for.
std::shared_ptr<torch::inductor::AOTIModelPackageLoader> load(const std::string &path,
                                                              const LoadOptions &options);

// The program takes species, edge vectors, edges, and weights of energies and variables; it returns
// energies, variables, and the gradient of their weighted sum by the edge vectors. All layers see
// all rows, so that several layers need either a single rank or rows for all that they reach.
class Network : public direct::Network {
  public:
    Network(std::shared_ptr<torch::inductor::AOTIModelPackageLoader> program, ModelInfo info,
            torch::ScalarType dtype);

    ForwardResult forward(const Graph &graph, HaloExchange *exchange) override;
    torch::Tensor backward(const direct::OutputWeights &weights, HaloExchange *exchange) override;

  private:
    std::vector<torch::Tensor> run(const torch::Tensor &energy_weights,
                                   const torch::Tensor &variable_weights) const;

    std::shared_ptr<torch::inductor::AOTIModelPackageLoader> program_;
    ModelInfo info_;
    torch::ScalarType dtype_;
    Graph graph_;             // of the last forward pass, vectors in the type of the program
    torch::Tensor gradient_;  // of the sum of energies, by its edge vectors
};

}  // namespace equicalc::compiled
