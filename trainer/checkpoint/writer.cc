#include "parallel/agreement.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/draft.h"

namespace switchyard::trainer {

void save_checkpoint(const FileSystem& files, const std::string& folder,
                     const CheckpointContent& content, const parallel::Mesh& mesh, int keep) {
  parallel::Communicator& world = mesh.control();
  const Draft draft = begin_draft(files, folder, content, mesh, keep, DraftMemory::kRun);
  run_or_discard(files, draft, [&] {
    const auto reports =
        parallel::agree(world, "checkpoint shards", [&] { return write_share(files, draft); });
    parallel::do_on_all(world, "checkpoint commit", [&] { commit_draft(files, draft, reports); });
  });
}

}  // namespace switchyard::trainer
