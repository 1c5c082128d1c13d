"""DeXpression: send a picture, get back the emotion on each face, from a small network that you can retrain."""
