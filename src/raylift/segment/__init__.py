"""What is where in a CT: label maps made without training on the study's data, and what is measured on them."""
