// Memory for the kernels of direct evaluation.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#include "kept_memory.h"

namespace equicalc::direct {

// Aligned to 64 bytes; large amounts in large pages where the system has them, since features of
// neighbours are read from all over the place. nullptr when there is none; freed with std::free.
void *allocate(int64_t bytes);

// Numbers without a value until they are written; never shrinks.
template <typename T>
class Buffer {
  public:
    T *ensure(int64_t count) {
        if (count > capacity_) {
            data_.reset();  // first, so that old and new are never there together
            capacity_ = 0;
            const int64_t room = with_room(count);
            void *memory = allocate(room * int64_t(sizeof(T)));
            if (memory == nullptr) {
                throw std::bad_alloc();
            }
            data_.reset(static_cast<T *>(memory));
            capacity_ = room;
        }
        return data_.get();
    }
    T *data() { return data_.get(); }
    const T *data() const { return data_.get(); }

  private:
    struct Free {
        void operator()(T *memory) const { std::free(memory); }
    };
    std::unique_ptr<T[], Free> data_;
    int64_t capacity_ = 0;
};

}  // namespace equicalc::direct
