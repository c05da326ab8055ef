"""Modules that PyTorch has not, as text for the lines that load what is written."""

BRANCHES = '''class Branches(nn.Module):
    """Several paths over the same input, whose outputs are joined."""

    def __init__(self, join, *paths):
        super().__init__()
        self.join, self.paths = join, [list(path) for path in paths]
        for path in paths:
            for name, module in path.items():
                self.add_module(name, module)

    def forward(self, x):
        outputs = []
        for path in self.paths:
            y = x
            for name in path:
                y = self.get_submodule(name)(y)
            outputs.append(y)
        if self.join == "concat":
            return torch.cat(outputs, 1)
        if self.join == "max":
            return torch.stack(outputs).amax(0)
        if self.join == "product":
            return torch.stack(outputs).prod(0)
        return sum(outputs) / (len(outputs) if self.join == "mean" else 1)'''

STOCHASTIC_DEPTH = '''class StochasticDepth(nn.Module):
    """Drops all values of an example with a probability in training."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if not self.training:
            return x
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.rate
        return x * kept / (1 - self.rate)'''
