"""LightningModules, one file a model. Read in this order they are a course.

`base`                  the tasks: what a classifier and a regressor do with any network
`objectives`            a loss and metrics that a configuration names, and how they are tried first
`linear_regression`     one linear layer
`two_layer_regression`  a hidden layer, and why it needs something that is not linear
`mlp`                   fully connected layers for classes
`conv_net`              convolution and pooling
`plain_net`             kinds of convolution, pooling, normalisation and activation
`res_net`               shortcuts, and the recipe that trains them fast
`backbones`, `transfer` a network that was trained before, with a new head
`recurrent`             an image as a sequence of rows
`attention`             an image as a set of patches
`gpt`, `image_gpt`      a language model whose words are pixels
"""
