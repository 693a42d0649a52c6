"""LightningModules, one file per model. Read in this order they are a course.

`task`, `tasks`         training with any network: steps and optimizer, then classification and regression
`class_weights`         cross-entropy with a weight for each class
`stored_model`          the weights that a model starts from, and what its checkpoints hold
`weight_files`          files of weights, read without running code
`epoch_metrics`         metrics over an epoch
`objectives`            a loss and metrics that a configuration names
`lr_schedules`          learning-rate schedules that end with the run
`linear_regression`     one linear layer
`two_layer_regression`  a hidden layer with an activation
`mlp`                   fully connected layers for classes
`conv_net`              convolution and pooling
`plain_net`             kinds of convolution, pooling, normalisation and activation
`res_net`               shortcuts, and the recipe that trains them fast
`backbones`, `transfer` a pretrained network with a new head
`recurrent`             an image as a sequence of rows
`transformer`           the transformer block
`attention`             an image as a set of patches
`gpt`, `image_gpt`      a language model whose tokens are pixels
"""
