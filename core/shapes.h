#pragma once
// The dimension legend. A suffix on a tensor's name lists its logical dimensions with these
// letters: x_TD, weight_TK.
//
//   B  sequences in this rank's micro-batch      E  experts (global)
//   S  sequence length                           e  experts held by this rank
//   T  tokens on this rank, B*S                  K  experts per token (top-k)
//   D  d_model                                   N  slots, T*K: one (token, choice) pair each
//   F  d_ff, an FFN's or expert's hidden width   R  rows received by this rank's experts
//   H  attention heads                           C  capacity: slots per expert and routing group
//   V  vocabulary                                P  ranks of the expert group
//
// The suffix says what the tensor means, not how it lies over ranks; a layout that matters is a
// comment.
