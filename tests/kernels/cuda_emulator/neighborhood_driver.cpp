// Runs the CUDA kernels of neighborhood attention, forward and backward, on problems from standard input.
//
// A problem: 10 int64s (dtype, batch, height, width, heads, head_dim, kernel, dilation, with_bias, shared bytes of a
// block), the scale as a double, the fused projection [batch, height, width, 3, heads, head_dim], the gradient of the
// output, and the bias in the type of sums. Answer: output, logsumexp, gradients of query, key, value and bias.
// On an error: its text on standard error, status 1.
#include <cstdio>
#include <vector>

#include "cuda_matrix_run.cuh"
#include "cuda_plain_run.cuh"

namespace {

// Exactly sized heap memory, so that AddressSanitizer sees what reads beyond; filled with NaNs.
struct Buffer {
  size_t bytes;
  unsigned char* data = nullptr;
  explicit Buffer(size_t size) : bytes(size) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 256, std::max<size_t>(1, size))) std::exit(3);
    data = static_cast<unsigned char*>(memory);
    std::memset(data, 0xff, size);
  }
  Buffer(const Buffer&) = delete;
  ~Buffer() { free(data); }
  void read() {
    if (std::fread(data, 1, bytes, stdin) != bytes) std::exit(3);
  }
  void write() const { std::fwrite(data, 1, bytes, stdout); }
};

constexpr int64_t kFloat = 0, kHalf = 1, kBFloat16 = 2, kDouble = 3;

struct Request {
  int64_t dtype, batch, height, width, heads, head_dim, kernel, dilation, with_bias, shared_bytes;
  double scale;
};

segzoo::DeviceTokens part_of(const Request& r, const Buffer& fused, size_t size, int part) {
  const long token = r.heads * r.head_dim;
  return {fused.data + part * token * size, r.height * r.width * 3 * token, r.width * 3 * token, 3 * token, r.head_dim, 1};
}

void check(const char* error) {
  if (error == nullptr) return;
  std::fprintf(stderr, "%s\n", error);
  std::exit(1);
}

template <typename Element, typename Sum>
struct Run {
  const Request& r;
  const long tokens = r.batch * r.height * r.width * r.heads, width = 2 * r.kernel - 1;
  const long cells = r.with_bias ? r.heads * width * width : 0;
  const segzoo::Device device{r.shared_bytes, nullptr};
  Buffer fused{3 * tokens * r.head_dim * sizeof(Element)}, gradient{tokens * r.head_dim * sizeof(Element)};
  Buffer bias{cells * sizeof(Sum)}, output{gradient.bytes}, logsumexp{tokens * sizeof(Sum)}, row_sum{logsumexp.bytes};
  Buffer grad_query{gradient.bytes}, grad_key{gradient.bytes}, grad_value{gradient.bytes}, grad_bias{bias.bytes};

  segzoo::CudaProblem problem() {
    segzoo::CudaProblem p{};
    p.shape = {int(r.batch), int(r.height), int(r.width), int(r.heads), int(r.head_dim), int(r.kernel), int(r.dilation)};
    p.scale = r.scale;
    p.query = part_of(r, fused, sizeof(Element), 0);
    p.key = part_of(r, fused, sizeof(Element), 1);
    p.value = part_of(r, fused, sizeof(Element), 2);
    const long token = r.heads * r.head_dim;
    p.grad_output = {gradient.data, r.height * r.width * token, r.width * token, token, r.head_dim, 1};
    p.bias = r.with_bias ? bias.data : nullptr;
    p.output = output.data;
    p.logsumexp = logsumexp.data;
    p.row_sum = row_sum.data;
    p.grad_query = grad_query.data;
    p.grad_key = grad_key.data;
    p.grad_value = grad_value.data;
    segzoo::set_classes(p);
    return p;
  }

  template <int head_dim>
  void matrix() {
    segzoo::CudaProblem p = problem();
    segzoo::MatrixSpace space = segzoo::matrix_forward_space(p, device.shared_bytes);
    check(space.error);
    Buffer table(space.table * sizeof(float4));
    p.tiles = space.tiles;
    p.table = reinterpret_cast<float4*>(table.data);
    check(segzoo::run_forward<Element, head_dim>(p, device));
    space = segzoo::matrix_backward_space(p, device.shared_bytes);
    check(space.error);
    Buffer backward_table(space.table * sizeof(float4));
    Buffer parts(r.with_bias ? r.heads * space.parts * width * width * sizeof(float) : 0);
    p.tiles = space.tiles;
    p.table = reinterpret_cast<float4*>(backward_table.data);
    p.bias_parts = r.with_bias ? parts.data : nullptr;
    check(segzoo::run_backward<Element, head_dim>(p, grad_bias.data, device));
  }

  template <typename P>
  void plain() {
    segzoo::CudaProblem p = problem();
    check(segzoo::run_plain_forward<P>(p, device));
    Buffer parts(r.with_bias ? r.heads * segzoo::plain_parts(p) * width * width * sizeof(Sum) : 0);
    p.bias_parts = r.with_bias ? parts.data : nullptr;
    check(segzoo::run_plain_backward<P>(p, grad_bias.data, device));
  }

  void read() {
    for (Buffer* buffer : {&fused, &gradient, &bias}) buffer->read();
  }
  void write() {
    for (Buffer* buffer : {&output, &logsumexp, &grad_query, &grad_key, &grad_value, &grad_bias}) buffer->write();
  }
};

template <typename Element, typename Sum, typename Kernels>
void run(const Request& request, const Kernels& kernels) {
  Run<Element, Sum> run{request};
  run.read();
  kernels(run);
  run.write();
}

// Every padded head dimension with one of the two half-precision types, to save compiling the same code twice.
void answer(const Request& request) {
  const int64_t dtype = request.dtype, head_dim = request.head_dim;
  const bool bfloat16 = dtype == kBFloat16;
  if (dtype == kDouble) {
    run<double, double>(request, [](auto& own) { own.template plain<segzoo::Plain<double, double, 32, 1>>(); });
  } else if (dtype == kFloat && head_dim % 4 == 0 && head_dim <= 32) {
    run<float, float>(request, [](auto& own) { own.template plain<segzoo::Plain<float, float, 8, 4>>(); });
  } else if (dtype == kFloat && head_dim % 4 == 0 && head_dim <= 64) {
    run<float, float>(request, [](auto& own) { own.template plain<segzoo::Plain<float, float, 16, 4>>(); });
  } else if (dtype == kFloat) {
    run<float, float>(request, [](auto& own) { own.template plain<segzoo::Plain<float, float, 32, 1>>(); });
  } else if (bfloat16 && head_dim > 16 && head_dim <= 32) {
    run<__nv_bfloat16, float>(request, [](auto& own) { own.template matrix<32>(); });
  } else if (bfloat16 && head_dim > 32 && head_dim <= 64) {
    run<__nv_bfloat16, float>(request, [](auto& own) { own.template matrix<64>(); });
  } else if (dtype == kHalf && head_dim <= 16) {
    run<__half, float>(request, [](auto& own) { own.template matrix<16>(); });
  } else if (dtype == kHalf && head_dim > 64) {
    run<__half, float>(request, [](auto& own) { own.template matrix<128>(); });
  } else {
    check("no kernel of this type and head dimension in this program");
  }
}

}  // namespace

int main() {
  Request request;
  while (std::fread(&request, sizeof(request), 1, stdin) == 1) answer(request);
  return 0;
}
