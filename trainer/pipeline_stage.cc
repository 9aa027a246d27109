#include "trainer/pipeline_stage.h"

#include "core/tensor/aten.h"
#include "core/tensor/profiled_part.h"

namespace switchyard::trainer {
namespace {

void receive(const at::Tensor& into, parallel::Link& link, const char* what) {
  const ProfiledPart part("sy::pipeline");
  link.receive(into.mutable_data_ptr(), static_cast<int64_t>(into.nbytes()), what);
}

}  // namespace

void PipelineStage::Parcel::send(const at::Tensor& next, parallel::Link& link, const char* what) {
  const ProfiledPart part("sy::pipeline");
  arrive();
  content = next.contiguous();
  work = link.start_send(content.const_data_ptr(), static_cast<int64_t>(content.nbytes()), what);
}

void PipelineStage::Parcel::arrive() {
  if (work) work->wait();
  work.reset();
}

void PipelineStage::run(int64_t micro_batches) {
  in_flight_.resize(micro_batches);
  for (const Action& action : pipeline_order(pipeline_.place(), micro_batches)) carry_out(action);
  rows_.arrive();
  gradient_.arrive();
}

void PipelineStage::carry_out(const Action& action) {
  InFlight& pass = in_flight_[action.micro_batch];
  switch (action.kind) {
    case Action::Kind::kReceiveRows:
      pass.entered_TD = passes_.empty_rows();
      return receive(pass.entered_TD, pipeline_.rows_in(), "rows");
    case Action::Kind::kForward:
      activity_.begin(parallel::Phase::kForward, action.micro_batch);
      if (pass.entered_TD.defined()) pass.entered_TD.set_requires_grad(true);
      pass.left = passes_.forward(action.micro_batch, pass.entered_TD);
      return;
    case Action::Kind::kSendRows:
      return rows_.send(pass.left.detach(), pipeline_.rows_out(), "rows");
    case Action::Kind::kReceiveGradient:
      pass.gradient_TD = at::empty_like(pass.left, at::MemoryFormat::Contiguous);
      return receive(pass.gradient_TD, pipeline_.gradients_in(), "gradient of rows");
    case Action::Kind::kBackward:
      activity_.begin(parallel::Phase::kBackward, action.micro_batch);
      pass.left.backward(pass.gradient_TD);
      pass = {pass.entered_TD, {}, {}};
      return;
    case Action::Kind::kSendGradient:
      gradient_.send(pass.entered_TD.grad(), pipeline_.gradients_out(), "gradient of rows");
      pass = {};
  }
}

}  // namespace switchyard::trainer
