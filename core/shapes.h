#pragma once
// The dimension legend. A suffix on a tensor's name lists its logical dimensions with these
// letters: x_TD, weight_TK. A digit is that size itself: rows_T1, gates_B4U.
//
//   B  sequences in this rank's micro-batch      T  tokens on this rank, B*S
//   S  positions of a sequence                   D  d_model
//   M  positions of an encoder's source          F  d_ff, an FFN's or expert's hidden width
//   H  attention heads                           V  vocabulary
//   d  width of a head                           Q  width of all heads, H*d
//   U  hidden units of an LSTM                   O  outputs of a matrix that is none of these
//
//   E  experts (global)                          G  groups of tokens counted together
//   e  experts held by this rank                 W  groups of experts on one device
//   K  experts per token (top-k)                 R  rows received by this rank's experts
//   P  ranks of the expert group                 C  classes that a table's cases belong to
//
//   Of a two-level gate (models/moe/rules/two_level.h), E = A*I and K = L*J:
//   A  groups of experts                         I  experts of a group
//   L  groups that a token chooses               J  experts that it chooses in each
//
//   N  any other length, which the code beside it names: slots, candidates, columns
//
// The suffix says what the tensor means, not how it lies over ranks; a layout that matters is a
// comment.
