"""Every method on every sealed set: arms, controls, the verdict, the results."""
