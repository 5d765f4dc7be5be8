// Package arch knows the model families: it reads a configuration from GGUF metadata or config.json, checks every tensor's shape against it before a byte of weights is read, packs the weights for the
// kernels, and computes the forward pass of a batch of tokens over a paged key/value cache.
//
// Families: Llama and Mistral, Qwen2, Qwen3; of encoders, which give vectors and scores instead of tokens, BERT and RoBERTa. Every other one ends in [ErrUnsupported] with its name.
//
// A GGUF file and a safetensors folder of the same model give equal bits: Llama's query and key rows, which GGUF stores permuted for interleaved rotation, are put back while packing, and rotation is always
// computed in halves. The package holds no cache policy and no scheduling; see package run.
package arch
